"""A check that a storage creates a key only if it is absent: commits depend on that."""

import uuid
from concurrent.futures import ThreadPoolExecutor

from ixt_data.errors import StoreError
from ixt_data.storage.base import Storage

WRITERS = 8


def probe(storage: Storage) -> None:
    """Create two keys several times, check the results, and delete the keys.

    Raises:
        StoreError: the storage overwrites a key, lets two writers win, or is not writable.
    """
    name = uuid.uuid4().hex
    one, many = f"_probe/{name}-one", f"_probe/{name}-many"
    try:
        try:
            problem = _check_sequential(storage, one) or _check_concurrent(storage, many)
        finally:
            storage.delete(one, many)
    except OSError as error:
        raise StoreError(f"{storage.root} cannot contain a store: {error}") from None
    if problem:
        raise StoreError(
            f"{storage.root} cannot contain a store: {problem}. A store needs a storage that "
            "creates a key only if it is absent: a file system with hard links, or S3 with "
            "conditional writes"
        )


def _check_sequential(storage: Storage, key: str) -> str:
    if not storage.create(key, b"first"):
        return f"a new key ({key}) was reported as existing"
    if storage.create(key, b"second"):
        return "the same key could be created twice"
    if storage.read(key) != b"first":
        return "an existing key was overwritten, although the storage reported that it was not"
    return ""


def _check_concurrent(storage: Storage, key: str) -> str:
    contents = [f"writer {i}".encode() for i in range(WRITERS)]
    with ThreadPoolExecutor(WRITERS) as pool:
        created = list(pool.map(lambda data: storage.create(key, data), contents))
    if sum(created) != 1:
        return f"of {WRITERS} concurrent writers of one key, {sum(created)} succeeded"
    if storage.read(key) != contents[created.index(True)]:
        return "the key that one of several writers created contained the bytes of another"
    return ""
