"""The files of a local store, and their age."""

import os
import time
from pathlib import Path

from ixt_data.store import Store


def files(store: Store) -> set[str]:
    root = Path(store.root)
    folders = [root / "shards", root / "meta", root / "_tmp"]
    return {p.relative_to(root).as_posix() for f in folders for p in f.rglob("*") if p.is_file()}


def age(store: Store, seconds: float) -> None:
    for path in Path(store.root).rglob("*"):
        when = time.time() - seconds
        os.utime(path, (when, when))
