"""`ixt rubric check` and `ixt rubric compare`, with a real server and a real store."""

import json
from pathlib import Path

import yaml
from command_line import as_json, ixt
from fake_vllm import Running

from ixt_data.critics.rubric import load_rubric
from ixt_data.store.store import Store


def test_check_lists_shipped_rubrics_and_fails_on_an_error(tmp_path: Path) -> None:
    shown = as_json("rubric", "check", folder=tmp_path)["rubrics"]
    names = [one["rubric"] for one in shown]
    assert names == ["code", "dialogue", "math", "sft", "web"]
    assert all((one["errors"], one["warnings"]) == (0, 0) for one in shown)
    tree = load_rubric("web").content | {"overall": "From 1 to 10."}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree))
    words = ("rubric", "check", "mine.yaml")
    [record] = as_json(*words, "--price-in", 2, folder=tmp_path, code=1)["rubrics"]
    assert (record["errors"], record["warnings"]) == (1, 3)
    assert record["findings"][0]["place"] == "overall"
    assert record["max_cost_of_1000"] == record["prompt_tokens"] * 2 / 1000
    text = ixt(*words, folder=tmp_path, code=1).stdout
    assert "'From 1 to 10' is another scale" in text
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    assert "mine.yaml" in ixt(*words, folder=tmp_path, code=1).stderr


def test_compare_judges_the_same_documents_twice_and_stores_nothing(tmp_path: Path) -> None:
    pages = [{"text": f"page {i} of a book"} for i in range(60)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(page) + "\n" for page in pages))
    ixt("init", folder=tmp_path)
    ixt("ingest", "--corpus", "web", "a.jsonl", folder=tmp_path)
    tree = load_rubric("web").content | {"name": "mine", "flags": []}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree))
    words = ("rubric", "compare", "web", "mine.yaml", "--corpus", "web", "--critic", "vllm")
    with Running() as fake:
        judge = (*words, "--endpoint", fake.url, "--model", "judge", "--documents", 30)
        found = as_json(*judge, "--price-out", 10, folder=tmp_path)
        assert fake.fake.requests["chat"] == 60
        assert set(fake.fake.asked.values()) == {2}
        assert (found["documents"], found["compared"], found["spearman"]) == (30, 30, 1)
        assert [one["rubric"] for one in found["results"]] == ["web", "mine.yaml"]
        assert [one["tokens_out"] for one in found["results"]] == [120, 120]
        assert found["results"][0]["cost"] == 120 * 10 / 1e6
        assert found["results"][0]["tokens_in"] > found["results"][1]["tokens_in"]
        text = ixt(*judge, folder=tmp_path).stdout
        assert "Spearman 95%" in text
        spent = ("--max-tokens", 200, "--price-out", 1e6, "--max-cost", 120 * 35)
        stopped = ixt(*judge, *spent, folder=tmp_path, code=1)
        assert "--max-cost" in stopped.stderr
        fake.fake.plan["refused"] = 1
        failed = ixt(*judge, folder=tmp_path, code=1)
        assert "refused" in failed.stderr
    same = ixt(*words[:3], "web", *words[4:], "--endpoint", "http://x/v1", folder=tmp_path, code=2)
    assert "same content" in same.stderr
    assert "requires --endpoint" in ixt(*words, folder=tmp_path, code=2).stderr
    assert Store.open(tmp_path / "S").snapshot().critics == {}
