"""The reason why a file of a snapshot cannot be read: an expired version, or damage."""

from collections.abc import Iterable

from ixt_data.errors import CorruptError, SnapshotError, StoreError
from ixt_data.log import Log, Snapshot
from ixt_data.storage import Storage


def explain_unreadable(
    storage: Storage, log: Log, states: Iterable[Snapshot], error: Exception
) -> StoreError:
    """Return the reason why a view cannot be created: an expired version, or damage."""
    oldest = log.snapshot().min_version
    for state in states:
        for path, file in state.rows.items():
            try:
                with storage.local(path) as local:
                    size = local.stat().st_size
            except FileNotFoundError:
                if state.version < oldest:
                    return SnapshotError(
                        f"version {state.version} was expired by garbage collection; available: "
                        f"versions from {oldest} on, and tagged versions (`ixt tag` lists them)"
                    )
                return CorruptError(f"{path}: missing. {_VERIFY}")
            if size != file.bytes:
                return CorruptError(f"{path}: {size} bytes instead of {file.bytes}. {_VERIFY}")
    return CorruptError(f"{str(error).strip().splitlines()[0]}. {_VERIFY}")


_VERIFY = "`ixt verify` names the damage and its repair"
