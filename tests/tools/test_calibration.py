"""`ixt calibrate`: figures that can be checked by hand, canaries, the page, and quantiles."""

import json
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ixt_data.analysis import quantiles
from ixt_data.analysis.calibration import calibrate
from ixt_data.analysis.canaries import read_canaries
from ixt_data.analysis.quantiles import write_quantiles
from ixt_data.cli.app import build
from ixt_data.critics.base import EmbeddedCritic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import ConfigError, StoreError
from ixt_data.ingestion import ingest
from ixt_data.maintenance.compaction import compact
from ixt_data.maintenance.verification import verify
from ixt_data.mix import Mix, plan_mix
from ixt_data.records import Critique, Document, document_id, format_id
from ixt_data.store.store import Store


class Judge(EmbeddedCritic):
    """Gives whole digits of 0 to 5 by a function of the text, several samples if there are some."""

    def __init__(self, name: str, digits: Callable[[str], list[int]], version: int = 1) -> None:
        self.name, self.digits, self.version = name, digits, version

    def config(self) -> dict[str, Any]:
        return {"version": self.version}

    def judge(self, document: Document) -> Critique:
        drawn = self.digits(document.text)
        if not drawn:
            raise ValueError("no answer")
        scores: dict[str, float] = {"overall": statistics.fmean(drawn)}
        if len(drawn) > 1:
            scores |= {"samples": len(drawn), "spread": statistics.pstdev(drawn)}
            scores |= {f"sample_{i}": digit for i, digit in enumerate(drawn, 1)}
        return Critique(document.doc_id, critique="so", score=scores["overall"] / 5, scores=scores)


def text_of(i: int) -> str:
    return f"{i} " + "word " * (i % 40)


def by_length(text: str) -> list[int]:
    return [min(5, text.count("word") // 8)]


def noisy(text: str) -> list[int]:
    (digit,), dice = by_length(text), random.Random(text)
    return [min(5, max(0, digit + dice.choice((-1, 0, 0, 1))))]


def three(text: str) -> list[int]:
    return [*noisy(text), *by_length(text), *noisy(text + "!")]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """400 documents of two sources; `strict` fails on one in ten."""
    lines = [
        {"text": text_of(i), "source": "even" if i % 2 == 0 else "odd", "id": i} for i in range(400)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    store = Store.init(tmp_path / "S")
    ingest(store, "web", [tmp_path / "a.jsonl"], shard_bytes=20_000)
    annotate(store, "web", Judge("length", by_length))
    annotate(store, "web", Judge("noisy", noisy))
    return store


def run(store: Store, *arguments: object, code: int = 0) -> Any:
    command = ["calibrate", "--store", store.root, *map(str, arguments)]
    done = CliRunner().invoke(build(), command)
    assert done.exit_code == code, (done.output, done.exception)
    return done


def as_json(store: Store, *arguments: object, code: int = 0) -> dict[str, Any]:
    done = run(store, *arguments, "--output", "json", code=code)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def weighted_kappa(x: Any, y: Any, top: int = 5) -> float:
    """Cohen's definition, by the table of both."""
    observed = np.zeros((top + 1, top + 1))
    np.add.at(observed, (x, y), 1 / len(x))
    expected = np.outer(observed.sum(1), observed.sum(0))
    weights = np.subtract.outer(np.arange(top + 1), np.arange(top + 1)) ** 2
    return float(1 - (weights * observed).sum() / (weights * expected).sum())


def ranks(values: Any) -> Any:
    return np.array([(values < v).sum() + (values == v).sum() / 2 for v in values])


def test_figures_are_those_of_their_definitions(store: Store) -> None:
    x = np.array([by_length(text_of(i))[0] for i in range(400)])
    y = np.array([noisy(text_of(i))[0] for i in range(400)])
    n = np.array([len(text_of(i)) for i in range(400)])
    found = as_json(store, "--critic", "length", "--critic", "noisy")
    (pair,) = found["pairs"]
    assert pair["all"]["documents"] == 400
    assert pair["all"]["kappa"] == pytest.approx(weighted_kappa(x, y))
    rank = np.corrcoef(ranks(x), ranks(y))[0, 1]
    assert pair["all"]["spearman"] == pytest.approx(rank)
    assert pair["all"]["mean_difference"] == pytest.approx((x - y).mean() / 5)
    assert pair["all"]["exact"] == pytest.approx((x == y).mean())
    even = pair["by_source"][0]
    assert (even["source"], even["documents"]) == ("even", 200)
    assert even["kappa"] == pytest.approx(weighted_kappa(x[::2], y[::2]))
    rank = np.corrcoef(ranks(x[::2]), ranks(y[::2]))[0, 1]
    assert even["spearman"] == pytest.approx(rank)
    assert np.array(pair["confusion"])[2, 1] == ((x == 2) & (y == 1)).sum()
    scores = found["critics"][0]
    slope, intercept = np.polyfit(np.log(n), x / 5, 1)
    assert (scores["slope"], scores["intercept"]) == pytest.approx((slope, intercept))
    assert scores["r2"] == pytest.approx(np.corrcoef(np.log(n), x)[0, 1] ** 2)
    assert (scores["coverage"], scores["samples"]) == (1.0, None)
    assert scores["histogram"] == np.bincount(x, minlength=6).tolist()


def test_only_shared_documents_are_compared(store: Store) -> None:
    lazy = Judge("lazy", lambda text: [] if text.startswith("1") else [3])
    annotate(store, "web", lazy)
    left_out = sum(str(i).startswith("1") for i in range(400))
    found = calibrate(store, ["length", "lazy"])
    assert found.critics[1].failed == left_out
    assert found.critics[1].coverage == pytest.approx(1 - left_out / 400)
    pair = found.pairs[0].all
    assert pair.documents == 400 - left_out
    # One that always says the same agrees as by chance, and orders nothing.
    assert (pair.kappa, pair.spearman) == (pytest.approx(0, abs=1e-9), None)


def test_samples_of_one_critic(store: Store) -> None:
    annotate(store, "web", Judge("thinker", three))
    found = as_json(store, "--critic", "thinker")
    (scores,) = found["critics"]
    drawn = np.array([three(text_of(i)) for i in range(400)])
    pairs = [weighted_kappa(drawn[:, i], drawn[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    samples = scores["samples"]
    assert (samples["documents"], samples["most"]) == (400, 3)
    assert samples["kappa"] == pytest.approx(np.mean(pairs))
    assert samples["spread"] == pytest.approx(drawn.std(axis=1).mean() / 5)
    assert "Thinking samples" in run(store, "--critic", "thinker").stdout


def test_versions_of_a_critic_are_compared_by_id(store: Store) -> None:
    annotate(store, "web", Judge("length", noisy, version=2))
    old, new = store.snapshot().critic_ids("length")
    found = as_json(store, "--critic", old, "--critic", new)
    assert found["pairs"][0]["all"]["kappa"] < 1
    assert as_json(store, "--critic", "length", "--critic", new)["pairs"][0]["all"]["kappa"] == 1
    with pytest.raises(StoreError, match="critics: length, noisy"):
        calibrate(store, ["lenght"])
    with pytest.raises(StoreError, match="no critiques in snapshot 1"):
        calibrate(store, at=1)


def test_a_canary_that_moves_fails_the_command(store: Store, tmp_path: Path) -> None:
    score = by_length(text_of(30))[0] / 5
    lines = [
        {"name": "steady", "text": text_of(30), "score": [score, score]},
        {"doc_id": format_id(document_id(text_of(30))), "score": [0, 1], "critic": "length"},
    ]
    path = tmp_path / "canaries.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    before = store.snapshot().version
    found = as_json(store, "--critic", "length", "--canaries", path)
    assert (found["moved"], len(found["canaries"])) == ([], 2)
    annotate(store, "web", Judge("length", lambda text: [0], version=2))
    found = as_json(store, "--critic", "length", "--canaries", path, code=1)
    assert found["moved"] == ["steady"]
    lines.append({"text": "nobody has seen this", "score": [0.5, 1]})
    path.write_text("\n".join(map(json.dumps, lines)))
    done = run(store, "--critic", "length", "--canaries", path, code=1)
    assert "steady, nobody has seen this" in done.stderr
    assert "missing" in done.stdout
    # Snapshots from before have the old score.
    path.write_text(json.dumps(lines[0]))
    assert as_json(store, "--critic", "length", "--canaries", path, "--at", before)["moved"] == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not JSON"),
        ('{"text": "a", "score": [0.9, 0.1]}', "is not .lowest, highest."),
        ('{"score": [0, 1]}', "either text or doc_id"),
        ('{"text": "a"}', "score: Field required"),
        ('{"doc_id": "xyz", "score": [0, 1]}', "line 1: "),
    ],
)
def test_a_bad_canary_names_its_line(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "canaries.jsonl"
    path.write_text(line)
    with pytest.raises(ConfigError, match=message):
        read_canaries(path)


def test_quantiles_are_a_column_of_a_later_snapshot(store: Store) -> None:
    before = store.snapshot().version
    raw = store.sql("SELECT doc_id, score FROM critiques ORDER BY ALL").to_pylist()
    report = as_json(store, "--critic", "length", "--write-quantiles", "q")["quantiles"]
    assert (report["documents"], report["snapshot"]) == (400, before + 1)
    assert store.sql("SELECT doc_id, score FROM critiques ORDER BY ALL").to_pylist() == raw
    x = np.array([by_length(text_of(i))[0] for i in range(0, 400, 2)])
    rows = store.sql(
        "SELECT source_id::INT AS i, q FROM documents JOIN critiques USING (doc_id) "
        "WHERE critic = 'length' AND source = 'even' ORDER BY 1"
    ).to_pylist()
    expected = (ranks(x)) / len(x)
    assert [row["q"] for row in rows] == pytest.approx(expected.tolist())
    assert "q" not in store.sql("SELECT * FROM critiques LIMIT 1", at=before).column_names
    others = store.sql("SELECT count(q) AS n FROM critiques WHERE critic = 'noisy'")
    assert others["n"].to_pylist() == [0]

    selections = [{"name": "upper", "where": "q > 0.5"}]
    mix = Mix.model_validate({"critic": "length", "selections": selections})
    upper = sum(row["q"] > 0.5 for row in rows)
    assert plan_mix(mix, store=store, samples=64).selections[0].documents == 2 * upper

    annotate(store, "web", Judge("length", noisy, version=2))
    assert store.sql("SELECT count(q) AS n FROM critiques")["n"].to_pylist() == [0]
    assert write_quantiles(store, "length", "q").documents == 400
    counts = "SELECT count(q) AS n, count(*) AS rows FROM critiques_all"
    assert store.sql(counts).to_pylist() == [{"n": 400, "rows": 1200}]


def test_a_compaction_in_between_is_no_harm(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write, races = quantiles._write_values, iter([True, False])

    def racing(*arguments: Any) -> int:
        if next(races):
            assert compact(store, everything=True)
        return write(*arguments)

    monkeypatch.setattr(quantiles, "_write_values", racing)
    assert write_quantiles(store, "length", "q").documents == 400
    counts = "SELECT critic, count(*) AS n, count(q) AS q FROM critiques_all GROUP BY 1 ORDER BY 1"
    assert store.sql(counts).to_pylist() == [
        {"critic": "length", "n": 400, "q": 400},
        {"critic": "noisy", "n": 400, "q": 0},
    ]
    assert verify(store).problems == []
    # And compaction keeps the column.
    compact(store, everything=True)
    assert [row["q"] for row in store.sql(counts).to_pylist()] == [400, 0]


@pytest.mark.parametrize("name", ["score", "source", "n_chars", "a b", "generation"])
def test_a_taken_column_is_refused(name: str, store: Store) -> None:
    with pytest.raises(StoreError, match="column"):
        write_quantiles(store, "length", name)


def test_the_page_is_one_file(store: Store, tmp_path: Path) -> None:
    annotate(store, "web", Judge("thinker", three))
    lines = {"text": text_of(30), "score": [0, 0], "name": "<script>alert(1)</script>"}
    path = tmp_path / "canaries.jsonl"
    path.write_text(json.dumps(lines))
    page = tmp_path / "out/calibration.html"
    found = as_json(store, "--canaries", path, "--plots", page, code=1)
    assert found["plots"] == str(page)
    text = page.read_text()
    assert text.count("<svg") == 3 * 2 + 3
    assert "<script" not in text
    assert "http-equiv" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "length and noisy" in text
