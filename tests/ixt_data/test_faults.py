"""Tests that let each storage call of each verb fail once: nothing is lost or reported wrongly."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from faulty_storage import FAULTS, FaultyStorage
from storage_verbs import VERBS, VERSIONS, create_base, run_with_fault

from ixt_data.storage.local import LocalStorage
from ixt_data.store.store import Store

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("base") / "store"
    create_base(root, VERSIONS)
    assert open_clean(root).log.newest() == 49
    return root


def open_clean(root: Path) -> Store:
    return Store(LocalStorage(root))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", VERBS)
def test_verb_with_a_failing_call_loses_nothing(
    name: str,
    fault: str,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    # A repetition takes over a lease that could not be released, as if its holder had crashed.
    monkeypatch.setattr("ixt_data.critique_runs.leases.is_running", lambda pid, started: False)
    calls = raised = 0
    while True:
        root = tmp_path / f"{calls}" / "store"
        shutil.copytree(base, root)
        storage = FaultyStorage(root, fault, calls + 1)
        is_error = run_with_fault(VERBS[name], Store(storage), partial(open_clean, root))
        shutil.rmtree(root.parent)
        if storage.calls <= calls:
            assert not is_error
            break
        calls += 1
        raised += is_error
    record_property("faults", (name, fault, calls, raised))
