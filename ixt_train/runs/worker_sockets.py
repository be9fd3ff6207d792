"""The path length that the sockets of DataLoader workers allow the folder of temporary files."""

import os

# A worker passes tensors through the socket $TMPDIR/pymp-xxxxxxxx/listener-xxxxxxxx. Linux allows
# 107 bytes, macOS 103. Beyond that torch prints the error of the worker, and waits forever.
_MAX_TMPDIR_BYTES = 103 - len("/pymp-xxxxxxxx/listener-xxxxxxxx")


def too_long_for_sockets(folder: str | os.PathLike[str]) -> str | None:
    """Return how much a folder is too long for the sockets of workers, None if it is not."""
    if (size := len(os.fsencode(folder))) <= _MAX_TMPDIR_BYTES:
        return None
    return (
        f"{os.fspath(folder)} has {size} bytes, and the sockets of DataLoader workers allow at "
        f"most {_MAX_TMPDIR_BYTES}"
    )
