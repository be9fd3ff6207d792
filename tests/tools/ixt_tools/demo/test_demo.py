"""The demo's parts, and the whole of it in its quick form."""

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
import yaml

from ixt_data.console.output import Output, OutputMode
from ixt_data.errors import IxtError
from ixt_data.mix import Mix
from ixt_tools.demo.configs import ARMS, FULL, QUICK, clock_mix, clock_train, stdlib_mix
from ixt_tools.demo.jobs import DemoJob
from ixt_tools.demo.main import describe_losses, format_headline
from ixt_tools.demo.stdlib import copy_stdlib, stdlib_files
from ixt_tools.demo.training import accuracy_curve
from ixt_tools.demo.workspace import MARKER, DemoWorkspace
from ixt_tools.report.content import Arm, Loss
from ixt_train.config.train_config import TrainConfig


def arm(name: str, final: float) -> Arm:
    return Arm(name, (1,), (final,), final, 10, 100, 1.0)


def scene(folder: Path) -> DemoWorkspace:
    return DemoWorkspace(folder, 0, QUICK, Output(OutputMode.json))


def test_the_arms_are_one_train_config_with_another_mix() -> None:
    trains = [clock_train(name, "r", 3, FULL) for name in ARMS]
    for train in trains:
        train.pop("mix")
        train["eval"]["tasks"][0].pop("feedback")
    assert all(train == trains[0] for train in trains)
    kinds = {name: clock_mix(name, "s", 3)["condition"]["kind"] for name in ARMS}
    without = dict.fromkeys(("plain", "filter", "anneal"), "none")
    assert kinds == {**without, "score": "score", "critique": "both"}


def test_the_files_are_valid_by_the_models() -> None:
    for name in ARMS:
        Mix.model_validate(clock_mix(name, "s", 0))
        TrainConfig.model_validate(clock_train(name, "r", 0, QUICK))
    Mix.model_validate(stdlib_mix("s", 0.6, 0))


def test_the_standard_library_comes_without_what_was_installed(tmp_path: Path) -> None:
    assert copy_stdlib(tmp_path / "lib", limit=50) == 50
    copied = list((tmp_path / "lib").rglob("*"))
    assert not any("site-packages" in path.parts or path.is_symlink() for path in copied)
    root = tmp_path / "root"
    for place in ("a.py", "b.txt", "__pycache__/a.py", "site-packages/x.py", "pack/c.py"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text("x = 1\n")
    (root / "link.py").symlink_to(root / "a.py")
    found = [path.relative_to(root).as_posix() for path in stdlib_files(root)]
    assert found == ["a.py", "pack/c.py"]


def test_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(IxtError, match="contains files that no demo wrote"):
        scene(tmp_path).prepare()
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_existing_demo_is_replaced(tmp_path: Path) -> None:
    scene(tmp_path / "demo").prepare()
    (tmp_path / "demo" / "old").write_text("")
    scene(tmp_path / "demo").prepare()
    assert [path.name for path in (tmp_path / "demo").iterdir()] == [MARKER]


def test_the_headline_says_what_came_out() -> None:
    others = [arm("plain", 0.0), arm("filter", 0.02), arm("score", 0.04)]
    assert "solves 93% of new problems; without them, at most 4%" in format_headline(
        [*others, arm("critique", 0.93)]
    )
    failed = format_headline([*others, arm("critique", 0.05)])
    assert failed == "New problems solved: plain 0%, filter 2%, score 4%, critique 5%"


def test_losses_are_described_by_their_sign() -> None:
    def losses(best_on_high: float) -> tuple[Loss, ...]:
        rows = {("0 to 0.4", "best"): 3.2, ("0 to 0.4", "worst"): 3.1, ("0.4 to 1", "worst"): 3.5}
        rows |= {("0.4 to 1", "best"): best_on_high, ("all", "best"): 3.3, ("all", "worst"): 3.3}
        return tuple(Loss(*place, loss) for place, loss in rows.items())

    assert "grows by 0.200 nats per token" in describe_losses(losses(3.4))
    assert "does not distinguish them" in describe_losses(losses(3.7))
    assert describe_losses(()) == ""


def test_accuracy_is_read_from_metrics() -> None:
    rows = [
        {"step": 1, "loss": 2.0},
        {"step": 2, "eval": {"tasks": {"sums": 0.5}}},
    ]
    assert accuracy_curve(rows) == [(2, 0.5)]


def test_demo_job_counts_the_steps_in_its_metrics(tmp_path: Path) -> None:
    job = DemoJob("a", tmp_path / "a.yaml", tmp_path / "a.log", tmp_path, steps=4)
    assert (job.steps_done(), job.metrics()) == (0, [])
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert job.steps_done() == 1


@pytest.mark.slow
@pytest.mark.e2e
def test_quick_demo(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ixt_data", "demo", "--quick", "--seed", "1"]
    done = subprocess.run(
        [*command, "--folder", "out", "--output", "json"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = orjson.loads(done.stdout)
    assert set(result) == {"store", "snapshot", "documents", "arms", "report", "seconds"}
    assert set(result["arms"]) == set(ARMS)
    page = (tmp_path / result["report"]).read_text()
    assert page.count("<svg") == 3
    assert str(tmp_path) not in page
    mix = yaml.safe_load((tmp_path / "out/configs/critique.mix.yaml").read_text())
    assert mix["condition"]["kind"] == "both"
