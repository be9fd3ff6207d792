"""Whether a place really creates a key only if it is absent: everything rests on that."""

import uuid
from concurrent.futures import ThreadPoolExecutor

from ixt_data.errors import StoreError
from ixt_data.storage.base import Storage

WRITERS = 8


def probe(storage: Storage) -> None:
    """Creates two keys more than once, looks at what became of them, and removes them.

    Raises:
        StoreError: the place overwrites, lets two writers win, or cannot be written to.
    """
    name = uuid.uuid4().hex
    one, many = f"_probe/{name}-one", f"_probe/{name}-many"
    try:
        try:
            what = _in_turn(storage, one) or _at_once(storage, many)
        finally:
            storage.delete(one, many)
    except OSError as error:
        raise StoreError(f"{storage.root} cannot hold a store: {error}") from None
    if what:
        raise StoreError(
            f"{storage.root} cannot hold a store: {what}. A store needs a place that creates a key "
            "only if it is absent: a file system with hard links, or S3 with conditional writes"
        )


def _in_turn(storage: Storage, key: str) -> str:
    if not storage.create(key, b"first"):
        return f"a key that nobody had created was said to be there ({key})"
    if storage.create(key, b"second"):
        return "the same key could be created twice"
    if storage.read(key) != b"first":
        return "a key that was there was overwritten, though the place said that it was not"
    return ""


def _at_once(storage: Storage, key: str) -> str:
    contents = [f"writer {i}".encode() for i in range(WRITERS)]
    with ThreadPoolExecutor(WRITERS) as pool:
        created = list(pool.map(lambda data: storage.create(key, data), contents))
    if sum(created) != 1:
        return f"of {WRITERS} writers that created one key at once, {sum(created)} succeeded"
    if storage.read(key) != contents[created.index(True)]:
        return "the key that one of several writers had created held the bytes of another"
    return ""
