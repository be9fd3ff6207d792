"""A full disk, by a real file system of a few megabytes."""

from pathlib import Path

from small_disk import run_on_small_disk

FILL = """
import os, sys
from datetime import timedelta
from pathlib import Path
sys.path.insert(0, {support!r})
disk = Path(sys.argv[1])

def fill():
    with (disk / "ballast").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(os.urandom(size))
            except OSError as error:
                assert error.errno == 28
"""


def run(tmp_path: Path, program: str) -> str:
    support = str(Path(__file__).parents[2] / "support")
    done = run_on_small_disk(tmp_path, FILL.format(support=support) + program)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_gc_frees_a_full_disk(tmp_path: Path) -> None:
    program = """
from small_stores import add_documents, add_commits
from ixt_data.maintenance import collect_garbage, compact
from ixt_data.store import Store

store = Store.init(disk / "S")
add_commits(store, 12)
compact(store)
fill()
try:
    add_documents(store, ["more"])
except OSError as error:
    print(error.errno, Path(error.filename).is_relative_to(disk))
report = collect_garbage(store, keep=timedelta(0), keep_versions=1)
print(len(report.deleted) > 5, (disk / "S/_reserve").exists(), len(store.sql("FROM documents")))
add_documents(store, ["more"])
"""
    assert run(tmp_path, program).splitlines() == ["28 True", "True True 36"]


def test_array_on_a_full_disk_raises(tmp_path: Path) -> None:
    program = """
import numpy as np
from ixt_data.storage import allocated_array

fill()
try:
    allocated_array(disk / "array", np.uint32, (1000, 128))[:] = 1
except OSError as error:
    print(error.errno, error.filename == str(disk / "array"), (disk / "array").exists())
"""
    assert run(tmp_path, program) == "28 True False\n"


def test_error_of_a_full_disk_names_path_and_remedy(tmp_path: Path) -> None:
    program = """
import subprocess
from ixt_data.store import Store

store = Store.init(disk / "S")
Path(disk.parent, "in.jsonl").write_text('{"text": "%s"}' % ("x" * 3_000_000))
ixt = [sys.executable, "-m", "ixt_data"]
(disk / "S/_reserve").unlink()
fill()
words = ["ingest", "--store", str(disk / "S"), "--corpus", "web", str(disk.parent / "in.jsonl")]
done = subprocess.run([*ixt, *words], capture_output=True, text=True)
print(done.returncode, done.stderr.splitlines()[-1])
"""
    shown = run(tmp_path, program)
    assert shown.startswith(f"1 error: {tmp_path}/disk/S/")
    assert "No space left on device. Free some space, for example with `ixt gc`" in shown
