"""One process trains in a run folder; the lock ends with it."""

import subprocess
import sys
from pathlib import Path

import pytest

from ixt_data.errors import StoreError
from ixt_train.runs.run_lock import lock_run_folder

HOLD = """
import sys
from pathlib import Path
from ixt_train.runs.run_lock import lock_run_folder
with lock_run_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_lock_of_a_run_folder_is_held_by_one_process_until_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "first"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    with pytest.raises(StoreError, match=r"another process trains in .*first; wait"):
        lock_run_folder(folder).__enter__()
    holder.kill()
    holder.wait()
    for _ in range(2):
        with lock_run_folder(folder):
            assert not folder.exists()
    assert list(folder.parent.iterdir()) == []
