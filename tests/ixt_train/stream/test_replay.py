import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.errors import ConfigError, FingerprintError, UnknownDocument
from ixt_train.runs.draws import read_draws
from ixt_train.stream.replay import Replay


def test_replay_equals_the_recorded_batches(trained_run: Path) -> None:
    replay = Replay(trained_run)
    recorded = dict(read_draws(trained_run))
    assert len(recorded) == 40
    for step in (1, 2, 17, 40):
        batch = replay.batch(step)
        assert batch["recorded"]
        assert [sample["doc_id"] for sample in batch["samples"]] == recorded[step]
        assert all(sample["text"] and sample["input_ids"] for sample in batch["samples"])
        conditioned = [sample["critique"] for sample in batch["samples"] if sample["has_feedback"]]
        assert all(conditioned)


def test_replay_of_a_document_lists_its_steps(trained_run: Path) -> None:
    recorded = dict(read_draws(trained_run))
    (name, times), *_ = Counter(n for names in recorded.values() for n in names).most_common(1)
    steps = Replay(trained_run).document(name)["steps"]
    assert steps == [step for step, names in recorded.items() for n in names if n == name]
    assert len(steps) == times


def test_replay_of_a_missing_step_or_document_raises(trained_run: Path, tmp_path: Path) -> None:
    replay = Replay(trained_run)
    with pytest.raises(ConfigError, match=r"41 is not among the steps 1 to 40"):
        replay.batch(41)
    with pytest.raises(UnknownDocument, match="not a doc_id"):
        replay.document("seventeen")
    with pytest.raises(ConfigError, match="not a complete run folder"):
        Replay(tmp_path)


def test_replay_with_another_record_raises(trained_run: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        "ixt_train.stream.replay.read_step_draws", lambda folder, step: ["someone else"]
    )
    with pytest.raises(FingerprintError, match="record of step 3"):
        Replay(trained_run).batch(3)


def test_replay_on_the_command_line_prints_a_batch(trained_run: Path) -> None:
    arguments = ["replay", "--run", str(trained_run), "--batch", "2", "--output", "json"]
    done = CliRunner().invoke(build(), arguments)
    assert done.exit_code == 0, done.output
    samples = json.loads(done.stdout)["samples"]
    assert len(samples) == 16
    arguments[3:5] = ["--doc", samples[0]["doc_id"]]
    done = CliRunner().invoke(build(), arguments)
    assert 2 in json.loads(done.stdout)["steps"]
    assert CliRunner().invoke(build(), arguments[:3]).exit_code == 2
