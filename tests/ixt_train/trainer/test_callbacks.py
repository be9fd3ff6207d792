import os
from pathlib import Path

import pytest
from train_runs import Tree, run

from ixt_train.config.amount import Amount
from ixt_train.config.train_config import ScheduleConfig
from ixt_train.runs.checkpoints import checkpoint_step, is_name
from ixt_train.trainer.callbacks import learning_rate_factor

LONG = Amount(value=100)


def factors(**settings: object) -> list[float]:
    schedule = ScheduleConfig.model_validate(settings)
    return [round(learning_rate_factor(schedule, LONG, step, 10 * step), 6) for step in range(100)]


def test_warmup_is_linear_in_steps_or_tokens() -> None:
    assert factors(warmup="4ba")[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors(warmup="40tok")[:5] == [0.025, 0.275, 0.525, 0.775, 1.0]


def test_cosine_falls_to_its_final_share() -> None:
    rates = factors(kind="cosine", warmup="10ba", final=0.1)
    assert rates[10] == 1.0
    assert rates[55] == 0.55
    assert 0.1 < rates[-1] < 0.11


def test_wsd_is_stable_and_then_falls() -> None:
    rates = factors(kind="wsd", decay=0.2, final=0.0)
    assert set(rates[:81]) == {1.0}
    assert rates[90] == 0.5
    assert rates[-1] == 0.05


@pytest.mark.parametrize("asynchronous", [False, True])
def test_draws_are_on_the_disk_before_the_checkpoint_that_claims_them(
    config_tree: Tree, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    flushed: list[str] = []
    claims: list[tuple[int, set[str]]] = []
    fsync, rename = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        fsync(descriptor)
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def note_rename(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        if Path(target).parent.name == "checkpoints" and is_name(Path(target).name):
            claims.append((checkpoint_step(Path(target)), set(flushed)))
        return moved

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_rename)
    monkeypatch.setattr(Path, "rename", note_rename)
    run(config_tree, checkpoint={"every": "4ba", "asynchronous": asynchronous})
    assert [step for step, _ in claims] == [4, 8, 12]
    for step, on_disk in claims:
        # A file is flushed under its temporary name, and then its folder.
        own = f"{step - 3:09d}-{step:09d}.rank0.npz"
        assert any(own in name for name in on_disk), (step, on_disk)
        assert "draws" in on_disk
