"""`ixt doctor` finds real faults and prints how to fix them."""

import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_vllm import Running
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.store.store import Store
from ixt_tools.doctor.check import Check
from ixt_tools.doctor.connections import check_endpoint, check_store
from ixt_tools.doctor.machine import (
    check_cores,
    check_free_space,
    check_open_files,
    check_shared_memory,
    check_temporary,
)
from ixt_tools.doctor.packages import TESTED, check_packages

ROOT = Path(__file__).resolve().parents[4]


def by_name(checks: Iterator[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def doctor(*arguments: str, code: int = 0) -> dict:
    done = CliRunner().invoke(build(), ["doctor", *arguments, "--output", "json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def test_all_checks_pass_on_a_good_store(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "S")
    found = doctor("--store", store.root)
    assert found["ok"]
    names = {check["name"] for check in found["checks"]}
    assert {"python", "torch", "memory", "TMPDIR", "store", "store: writing"} <= names
    assert not (tmp_path / "S" / "_probe").exists()


def test_tested_versions_are_those_of_the_constraints() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert {name: pins[name] for name in TESTED} == TESTED


def install(folder: Path, name: str, version: str) -> None:
    place = folder / f"{name}-{version}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_incompatible_versions_are_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "duckdb", "1.4.0")
    install(tmp_path, "pyarrow", "99.0")
    install(tmp_path, "vllm", "0.20.2")
    monkeypatch.syspath_prepend(tmp_path)
    found = by_name(check_packages())
    assert found["duckdb"].state == "broken"
    assert found["duckdb"].what == "1.4.0; ixt needs >=2.0"
    assert found["duckdb"].remedy == f"pip install 'ixt' 'duckdb=={TESTED['duckdb']}'"
    assert (found["pyarrow"].state, found["pyarrow"].what[:11]) == ("warning", "99.0; teste")
    conflict = found["vllm with composer"]
    assert conflict.state == "broken"
    assert "a separate environment" in conflict.remedy


def test_endpoint_states_are_reported() -> None:
    (down,) = check_endpoint("http://127.0.0.1:9/v1")
    assert down.state == "broken"
    assert "no response" in down.what
    assert "vllm serve" in down.remedy
    with Running() as fake:
        (well,) = check_endpoint(fake.url)
    assert well.state == "ok"
    assert "serves " in well.what
    found = doctor("--endpoint", "http://127.0.0.1:9/v1", "--store", "./ixt", code=1)
    assert found["broken"] == ["endpoint http://127.0.0.1:9"]


def test_missing_store_is_broken(tmp_path: Path) -> None:
    (check,) = check_store(str(tmp_path / "S"))
    assert check.state == "broken"
    assert "ixt init --store" in check.what


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A store that this process can read and not write."""
    folder = Path(tempfile.mkdtemp(prefix="ixt-doctor-"))
    Store.init(folder / "S")
    places = [folder, *folder.rglob("*")]
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if not user:
        # Nothing is read-only for root.
        os.seteuid(65534)
    yield folder / "S"
    os.seteuid(user)
    for path in places:
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_read_only_store_is_broken(read_only: Path) -> None:
    found = by_name(check_store(str(read_only)))
    assert found["store"].state == "ok"
    assert found["store: writing"].state == "broken"
    assert "Permission denied" in found["store: writing"].what


def test_full_disk_is_broken() -> None:
    check = check_free_space("TMPDIR", Path("/proc"), "a larger disk")
    assert (check.state, check.remedy) == ("broken", "a larger disk")


def test_unusable_temporary_folder_is_broken(tmp_path: Path) -> None:
    for folder in (Path("/proc"), tmp_path / "absent", Path("/dev/null")):
        (check,) = check_temporary(folder)
        assert (check.state, check.name) == ("broken", "TMPDIR")
        assert "set TMPDIR" in check.remedy
    for i in range(1001):
        (tmp_path / f"000000_{i}_filelock").touch()
    assert by_name(check_temporary(tmp_path))["lock files"].state == "warning"
    assert not list(tmp_path.glob("ixt-doctor-*"))


def test_temporary_folder_with_a_long_path_is_reported() -> None:
    # The limit of the shorter system, macOS: 103 bytes with the socket's own name of 32.
    for size, state in ((71, "ok"), (72, "warning")):
        folder = Path(tempfile.mkdtemp(dir="/tmp"))
        folder /= "x" * (size - len(str(folder)) - 1)
        folder.mkdir()
        try:
            found = by_name(check_temporary(folder))["worker sockets"]
        finally:
            shutil.rmtree(folder.parent)
        assert found.state == state
    assert "72 bytes" in found.what
    assert "shorter folder" in found.remedy


def test_segments_of_killed_jobs_are_reported(tmp_path: Path) -> None:
    for name in ("000001_locals", "000002_locals"):
        (tmp_path / name).write_bytes(b"x" * 4096)
    with (tmp_path / "000001_locals").open("r+b") as file, mmap.mmap(file.fileno(), 0):
        stale = by_name(check_shared_memory(tmp_path))["stale segments"]
    assert stale.state == "warning"
    assert stale.what == "1 segment of streaming that no process has open, 4.1 kB"
    assert "000002_locals" in stale.remedy
    (missing,) = check_shared_memory(tmp_path / "shm")
    assert missing.state == "broken"


def test_threads_and_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, state in (("1", "ok"), ("4096", "warning"), ("many", "broken")):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert [check.state for check in check_cores()] == [state]
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        (check,) = check_open_files()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (check.state, check.remedy) == ("warning", "ulimit -n 65536")
