"""`ixt critique` with prices, a maximum of cost, and rates."""

import json
from pathlib import Path

from command_line import as_json, ixt
from critique_processes import command
from fake_vllm import Running

PRICES = ("--price-in", 0, "--price-out", 1_000_000, "--max-tokens", 200, "--no-expected")


def test_run_stops_at_its_maximum_cost_and_continues_with_a_higher_one(tmp_path: Path) -> None:
    lines = (json.dumps({"text": f"page {i}"}) for i in range(12))
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    ixt("init", folder=tmp_path)
    ixt("ingest", "--corpus", "web", "a.jsonl", folder=tmp_path)
    with Running() as fake:
        words = (*command(fake), *PRICES)
        estimated = as_json(*words, "--estimate", folder=tmp_path)
        assert estimated["cost"] == 12 * 120
        fake.fake.requests.clear()
        stopped = ixt(*words, "--max-cost", 700, folder=tmp_path, code=1)
        assert "--max-cost: 600 of 700 is spent" in stopped.stderr
        assert "the same command with a higher --max-cost continues" in stopped.stderr
        assert fake.fake.requests["chat"] == 5
        rates = ("--max-requests-per-minute", 60_000, "--max-tokens-per-minute", 1e9)
        # What the first command has spent counts.
        again = ixt(*words, "--max-cost", 700, folder=tmp_path, code=1)
        assert "600 of 700 is spent" in again.stderr
        assert fake.fake.requests["chat"] == 5
        done = as_json(*words, *rates, "--max-cost", 2000, folder=tmp_path)
        assert (done["ok"], done["reused"], done["cost"]) == (12, 5, 7 * 120)
        assert fake.fake.requests["chat"] == 12
        no_price = ixt(*command(fake), "--max-cost", 5, folder=tmp_path, code=1)
        assert "give --price-in and --price-out" in no_price.stderr
    rules = ("critique", "--corpus", "web", "--critic", "rules", "--max-cost", 5, "--price-in", 1)
    assert "not for rules" in ixt(*rules, folder=tmp_path, code=2).stderr


def test_prices_of_a_file_count(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "page"}\n')
    ixt("init", folder=tmp_path)
    ixt("ingest", "--corpus", "web", "a.jsonl", folder=tmp_path)
    file = tmp_path / "prices.yaml"
    file.write_text("prices:\n  judge: {price_in: 0, price_out: 1000000}\n")
    with Running() as fake:
        words = (*command(fake), "--no-expected", "--prices", file)
        assert as_json(*words, folder=tmp_path)["cost"] == 120
        both = ixt(*words, "--price-in", 1, folder=tmp_path, code=2)
        assert "either a file or --price-in" in both.stderr
        file.write_text("prices:\n  other: {price_in: 0, price_out: 1}\n")
        unknown = ixt(*words, folder=tmp_path, code=1)
        assert "no price of the model 'judge'; prices of: other" in unknown.stderr
