"""The lock of a run folder: one process trains in it at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ixt_data.errors import StoreError


@contextmanager
def lock_run_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder within the context.

    The lock is a file beside the folder, because the folder is copied and replaced as a whole. It
    ends with this process; workers that a killed process leaves behind do not hold it.

    Raises:
        StoreError: another process trains in the folder.
    """
    path = folder.absolute()
    path = path.with_name(f".{path.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(path, folder)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, folder: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            # Not inherited by workers, unlike flock.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise StoreError(
                f"run_folder: another process trains in {folder}; wait until it ends, or set "
                "another run_folder"
            ) from None
        # The former holder deletes the file at its end: then this one is without effect.
        if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
        os.close(descriptor)
