"""A writer that dies at any step of a commit: everything of it is there, or nothing."""

import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from small_stores import add_documents

from ixt_data.maintenance.garbage_collection import collect_garbage
from ixt_data.maintenance.verification import verify
from ixt_data.store.store import Store

STEPS: list[tuple[Any, str]] = [
    *((os, name) for name in ("fsync", "rmdir", "open")),
    *((Path, name) for name in ("hardlink_to", "replace", "unlink", "mkdir")),
    (shutil, "rmtree"),
]
"""What changes the place, in any step of which a writer may die."""


class Killed(BaseException):
    """Stands for SIGKILL: from here on nothing is done any more, no cleaning up either."""


def dying_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Lets every call from the `step`-th on fail."""
    done = 0

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done >= step:
                raise Killed
            return call(*args, **options)

        return wrapped

    for owner, name in STEPS:
        patch.setattr(owner, name, dying(getattr(owner, name)))


def test_a_writer_killed_at_any_step_leaves_a_whole_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(48):
        add_documents(store, [f"before {i}"])
    outcomes = set()
    # Version 50 is among those that are tried, and has a checkpoint to write.
    for step in range(1, 200):
        before = Store.open(store.root).snapshot()
        writer = Store.open(store.root)
        with monkeypatch.context() as patch:
            dying_at(step, patch)
            try:
                add_documents(writer, [f"at step {step}"])
            except Killed:
                finished = False
            else:
                finished = True
        after = Store.open(store.root)
        landed = after.snapshot().version - before.version
        documents = before.corpora["web"].documents + landed
        assert landed in (0, 1)
        assert after.snapshot().corpora["web"].documents == documents
        assert after.sql("SELECT count(*) AS n FROM documents").arrow()["n"].to_pylist() == [
            documents
        ]
        assert landed or not finished
        outcomes.add((landed, finished))
        if finished:
            break
    # Before its entry, after it and before the acknowledgement, and not at all.
    assert outcomes == {(0, False), (1, False), (1, True)}
    assert verify(store).problems == []
    collect_garbage(store, keep=timedelta(0), keep_versions=1, grace=timedelta(0))
    report = verify(store)
    assert (report.problems, report.orphans) == ([], [])
    add_documents(store, ["after"])
