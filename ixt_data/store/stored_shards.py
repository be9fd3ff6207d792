"""Reading the shards of a store: whole ones, and single samples."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ixt_data.errors import CorruptError
from ixt_data.log import ShardInfo
from ixt_data.mds import Shard, read_sample, read_shard
from ixt_data.storage import Storage
from ixt_data.store.external_shards import read_adopted


def read_stored(storage: Storage, info: ShardInfo) -> Shard:
    """Read one shard and check its hash; see `Store.shard`."""
    if info.is_external:
        return read_adopted(info)
    with _local(storage, info) as path:
        return read_shard(path, info.index)


def read_stored_sample(storage: Storage, info: ShardInfo, row: int) -> dict[str, Any]:
    """Read one sample of a shard; see `Store.sample`."""
    if info.is_external:
        return next(itertools.islice(read_adopted(info).rows(), row, None))
    with _local(storage, info) as path:
        return read_sample(path, info.index, row)


@contextmanager
def _local(storage: Storage, info: ShardInfo) -> Iterator[Path]:
    try:
        with storage.local(info.path) as path:
            yield path
    except FileNotFoundError:
        missing = f"{info.path}: missing. `ixt verify` names the documents that it contained"
        raise CorruptError(missing) from None
