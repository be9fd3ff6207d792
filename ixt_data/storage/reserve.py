"""Space that a store on a disk keeps for `ixt gc`: it writes a little before it can delete."""

import errno
import os
from contextlib import suppress

from ixt_data.storage.base import Storage
from ixt_data.storage.local import LocalStorage

RESERVE = "_reserve"
RESERVE_BYTES = 1 << 18
"""A pin's probe, a scratch folder and a log entry, in blocks of up to 64 KiB."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: OSError) -> bool:
    """Return whether an error says that a disk or a quota is full."""
    return error.errno in _FULL


def write_reserve(storage: Storage) -> None:
    """Create the reserve of a store in a folder if it has none; without space, do nothing."""
    if not isinstance(storage, LocalStorage) or (path := storage.path / RESERVE).exists():
        return
    try:
        # Not zeros, which some file systems do not store.
        path.write_bytes(os.urandom(RESERVE_BYTES))
    except OSError:
        with suppress(OSError):
            path.unlink()


def free_reserve(storage: Storage) -> bool:
    """Delete the reserve; return whether there was one."""
    if not isinstance(storage, LocalStorage):
        return False
    try:
        (storage.path / RESERVE).unlink()
    except OSError:
        return False
    return True
