"""`ixt scaling` on real train runs: run, read again, kept as curves."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.errors import ConfigError
from ixt_train.scaling.curves import read_curves, read_run
from ixt_train.scaling.load_curves import read_paths

Tree = dict[str, Any]


def scaling(*words: str) -> Tree:
    done = CliRunner().invoke(
        build(), ["scaling", *words, "--output", "json"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_read_run_returns_a_curve(trained_run: Path) -> None:
    curve = read_run(trained_run)
    assert (curve.arm, curve.seed, curve.budget) == ("run", 17, "40ba")
    assert curve.steps == (40,)
    assert curve.parameters > 10_000
    length = curve.tokens[0] / (40 * 16)
    per_token = 6 * curve.parameters + 6 * 2 * 32 * length
    assert curve.flops[0] == pytest.approx(curve.tokens[0] * per_token)
    # The model takes feedback, so it is asked under the best.
    assert curve.metrics["loss.inference.all"] == curve.metrics["loss.best.all"]


def test_read_run_of_an_invalid_folder_raises(tmp_path: Path, trained_run: Path) -> None:
    with pytest.raises(ConfigError, match="contains neither run folders nor"):
        read_paths([str(tmp_path)])
    with pytest.raises(ConfigError, match="does not exist"):
        read_paths([str(tmp_path / "x")])
    (tmp_path / "x.jsonl").write_text('{"arm": "a"}\n')
    with pytest.raises(ConfigError, match=r"x.jsonl line 1 is not a curve"):
        read_paths([str(tmp_path)])
    assert [c.arm for c in read_paths([f"a={trained_run}", f"b={trained_run}"])] == ["a", "b"]


@pytest.mark.slow
def test_scaling_runs_and_compares_arms(config_tree: Tree, sums: Path, tmp_path: Path) -> None:
    mix = config_tree.pop("mix")
    # What the curves show does not count here, only that all of it is there.
    config_tree["duration"] = "4ba"
    config_tree["eval"] |= {"every": "2ba", "samples": 2}
    config_tree["eval"]["tasks"][0]["limit"] = 2
    plain = mix | {"condition": {"kind": "none"}}
    for name, content in (("train", config_tree | {"mix": "a.yaml"}), ("a", mix), ("b", plain)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    arms = {
        "plain": {"mix": "b.yaml", "set": ["eval.tasks.0.feedback=none"]},
        "critique": {"mix": "a.yaml", "annotation_flops": 1e9},
    }
    config = {"train": "train.yaml", "arms": arms, "runs": str(tmp_path / "runs"), "seeds": [0, 1]}
    config |= {"parallel_runs": 2, "metric": "loss.inference.all", "targets": [9.0]}
    path = tmp_path / "scaling.yaml"
    path.write_text(yaml.safe_dump(config))
    page, kept = tmp_path / "page.html", tmp_path / "curves.jsonl"
    found = scaling(str(path), "--html", str(page), "--save", str(kept))
    (group,) = found["groups"]
    assert [(arm["arm"], arm["seeds"]) for arm in group["arms"]] == [
        ("plain", [0, 1]),
        ("critique", [0, 1]),
    ]
    against = group["arms"][1]["against"]["9"]["plain"]
    assert set(against) == {"steps", "tokens", "flops", "flops with annotation"}
    assert "<svg" in page.read_text()
    assert str(tmp_path) not in page.read_text()
    # Feedback costs tokens, padding none.
    curves = {(curve.arm, curve.seed): curve for curve in read_curves(kept)}
    assert curves["critique", 0].tokens[-1] > curves["plain", 0].tokens[-1]
    before = (tmp_path / "runs/plain-4ba-0/metrics.jsonl").stat().st_mtime_ns
    again = scaling(str(path))
    assert again["groups"] == found["groups"]
    assert (tmp_path / "runs/plain-4ba-0/metrics.jsonl").stat().st_mtime_ns == before
    for place in (str(kept), str(tmp_path / "runs")):
        words = (place, "--metric", "loss.inference.all", "--target", "9")
        (read,) = scaling(*words)["groups"]
        assert read["arms"][1]["best"] == pytest.approx(group["arms"][1]["best"], rel=1e-4)
