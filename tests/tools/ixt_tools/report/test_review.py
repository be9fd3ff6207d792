"""`ixt report` on a real store: what it shows, what it refuses, and that documents stay text."""

import re
from pathlib import Path

import orjson
import pytest
import yaml
from hostile_html import HOSTILE, Tags
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.critics.registry import load_critic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import ConfigError, StoreError
from ixt_data.ingestion import ingest
from ixt_data.store.store import Store
from ixt_tools.demo.clock_arithmetic import write_corpus
from ixt_tools.report.review import make_review
from ixt_train.runs.summary import downsample, read_train_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two corpora and critics, a mix, and the folder of a train run."""
    folder = tmp_path_factory.mktemp("review")
    store = Store.init(folder / "store")
    sums, _ = write_corpus(folder, documents=40, bad=0.5, problems=1)
    ingest(store, "sums", [sums], id_field="id")
    (folder / "web.jsonl").write_bytes(orjson.dumps({"text": HOSTILE}) + b"\n")
    ingest(store, "web", [folder / "web.jsonl"])
    annotate(store, "sums", load_critic("arithmetic"))
    annotate(store, "web", load_critic("rules"))
    store.tag("v1")
    mix = {"store": str(folder / "store"), "corpus": "sums", "critic": "arithmetic"}
    (folder / "mix.yaml").write_text(yaml.safe_dump(mix))
    run = folder / "run"
    run.mkdir()
    rows = [{"step": i, "tokens": 9 * i, "seconds": i, "loss": 3 - i / 9} for i in range(1, 9)]
    eval_row = {"loss": {"best": {"0-1": 2.5, "all": 2.4}}, "tasks": {"sums": 0.25}}
    lines = [*rows, {"step": 8, "tokens": 72, "seconds": 8, "eval": eval_row}]
    text = b"\n".join(map(orjson.dumps, lines)) + b'\n{"step": 9, "tok'
    (run / "metrics.jsonl").write_bytes(text)
    (run / "plan.json").write_bytes(orjson.dumps({"digest": "0123456789ab", "snapshot": 4}))
    (run / "config.yaml").write_text("stage: midtrain\n")
    return folder


def test_the_page_shows_scores_examples_plans_and_curves(folder: Path, tmp_path: Path) -> None:
    page, plots = tmp_path / "page.html", tmp_path / "plots"
    words = ["report", "--store", str(folder / "store"), "--at", "v1", "--to", str(page)]
    words += ["--mix", str(folder / "mix.yaml"), "--run", str(folder / "run")]
    done = CliRunner().invoke(build(), [*words, "--plots", str(plots), "--output", "json"])
    assert done.exit_code == 0, done.output
    said = orjson.loads(done.stdout)
    assert said["report"] == str(page)
    assert [Path(path).read_bytes()[1:4] for path in said["plots"]] == [b"PNG"] * 3
    html = page.read_text()
    tags = Tags()
    tags.feed(html)
    assert tags.tags.isdisjoint({"script", "img", "iframe", "object", "link"})
    assert not tags.handlers + tags.loads
    text = re.sub(r"<[^>]+>", " ", html)
    shown = (
        "every step is correct",
        "Snapshot 4, v1",
        "0123456789ab",
        "midtrain",
        "2.500",
        "25.0%",
    )
    for words_shown in (*shown, "sums, judged by arithmetic", "web, judged by rules"):
        assert words_shown in text, words_shown
    assert "sums, judged by rules" not in text
    kept = orjson.loads(Path(said["content"]).read_bytes())
    assert {one["corpus"]: sum(one["histogram"]["counts"]) for one in kept["judged"]} == {
        "sums": 40,
        "web": 1,
    }
    scores = [one["score"] for one in kept["judged"][0]["examples"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 1.0


def test_missing_names_are_reported(folder: Path, tmp_path: Path) -> None:
    store = Store.open(folder / "store")
    with pytest.raises(StoreError, match=r"critic 'rule' does not exist; valid: arithmetic, rules"):
        make_review(store, critics=["rule"])
    with pytest.raises(ConfigError, match="is not a run folder"):
        make_review(store, runs=[tmp_path])


def test_an_empty_store_has_a_page(tmp_path: Path) -> None:
    review = make_review(Store.init(tmp_path / "store"))
    # The page is shared, and a path tells about a machine.
    assert review.store == "store"
    assert (review.snapshot, review.judged, review.calibration) == (0, (), None)


def test_interrupted_run_is_read_to_its_end(folder: Path) -> None:
    run = read_train_run(folder / "run")
    assert (run.steps, run.tokens, len(run.loss)) == (8, 72, 8)


def test_curves_are_downsampled_by_means() -> None:
    assert downsample([(1, 1.0), (2, 3.0), (3, 5.0)], max_points=2) == ((2, 2.0), (3, 5.0))
