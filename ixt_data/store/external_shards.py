"""Shards of adopted folders, in the form of text shards of the store.

The store never changes such a folder. The reader computes missing columns: `doc_id` from the text,
`source` and `source_id` from other columns or from the sample's position.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from ixt_data.errors import CorruptError
from ixt_data.log import ShardInfo
from ixt_data.mds import TEXT_COLUMNS, Shard, read_shard
from ixt_data.records import as_text, document_id
from ixt_data.storage import Storage, open_storage

CHANGED = (
    "the adopted folder was changed: restore the original file, or adopt a copy of the folder "
    "as another corpus"
)


@dataclass(frozen=True)
class AdoptedShard(Shard):
    """A text shard of an adopted folder, with the columns of the family `text`.

    Attributes:
        original: the shard with its own columns.
        info: the record of the shard, with the columns of the text, the id and the source.
    """

    original: Shard
    info: ShardInfo

    def column(self, name: str) -> list[Any]:
        """Return the values of one of `TEXT_COLUMNS`; see `Shard.column`."""
        fields, n = self.info.fields or {}, self.samples
        if name == "doc_id":
            return [document_id(text) for text in self.texts]
        if name == "text":
            return self.texts
        if name in fields:
            return [as_text(value) for value in self.original.column(fields[name])]
        folder = folder_name(self.info)
        if name == "source":
            return [folder] * n
        return [f"{folder}:{self.info.raw.basename}:{row}" for row in range(n)]

    @cached_property
    def texts(self) -> list[str]:
        """The texts, decoded once.

        Raises:
            CorruptError: the shard has no such column, or a text is not UTF-8.
        """
        return self.original.column((self.info.fields or {})["text"])


def folder_of(info: ShardInfo) -> str:
    """Return the adopted folder of a shard: a path, or an address."""
    return info.path.removesuffix(f"/{info.stored.basename}")


def folder_name(info: ShardInfo) -> str:
    """Return the name of the adopted folder of a shard."""
    return PurePosixPath(folder_of(info)).name


@lru_cache(maxsize=32)
def folder_storage(folder: str) -> Storage:
    """Return the storage of an adopted folder."""
    return open_storage(folder)


def original_copy(info: ShardInfo) -> AbstractContextManager[Path]:
    """Provide a local file with the folder's current bytes, without a cache, in a `with`."""
    return folder_storage(folder_of(info)).original(info.stored.basename)


def sizes_of(shards: Iterable[ShardInfo]) -> dict[str, int]:
    """Return the current sizes in bytes of all files in the folders of some adopted shards."""
    folders = [folder_storage(folder) for folder in {folder_of(info) for info in shards}]
    return {f"{f.root}/{file.key}": file.size for f in folders for file in f.list("")}


def read_adopted(info: ShardInfo, path: Path | None = None) -> AdoptedShard:
    """Read a shard of an adopted folder and check its hash.

    Args:
        info: the shard.
        path: a local file with its bytes; by default a cached copy.

    Raises:
        CorruptError: the shard is missing, or was changed since it was adopted.
    """
    try:
        shard = read_shard(path, info.index) if path else _read_copy(info)
    except (CorruptError, FileNotFoundError) as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else _reason(error)
        raise CorruptError(f"{info.path}: {reason}. {CHANGED}") from None
    return AdoptedShard(
        shard.data, TEXT_COLUMNS, shard.starts, shard.ends, shard.samples, shard.name, shard, info
    )


def _read_copy(info: ShardInfo) -> Shard:
    storage, name = folder_storage(folder_of(info)), info.stored.basename
    with storage.local(name) as path:
        try:
            return read_shard(path, info.index)
        except CorruptError:
            if str(path) == info.path:
                raise
    # The cached copy may be older than the adoption, or from the moment of a change.
    storage.discard_copy(name)
    with storage.local(name) as path:
        return read_shard(path, info.index)


def _reason(error: CorruptError) -> str:
    """Return the reason of an error without the name of the file."""
    return str(error).partition(": ")[2].partition(". ")[0]
