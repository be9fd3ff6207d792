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
    "the adopted folder was changed: restore the original file, adopt a copy of the folder as "
    "another corpus, or name its new place: `ixt adopt NEW --corpus CORPUS --moved-from OLD`"
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


FOLDER = "folder"
"""Key of a shard's `fields`: where its adopted folder is, if it has moved."""


def original_folder(info: ShardInfo) -> str:
    """Return the folder of a shard when it was adopted: the shard's path never changes."""
    return info.path.removesuffix(f"/{info.stored.basename}")


def folder_of(info: ShardInfo) -> str:
    """Return the present folder of an adopted shard: a path, or an address."""
    return (info.fields or {}).get(FOLDER) or original_folder(info)


def location_of(info: ShardInfo) -> str:
    """Return the present path or address of an adopted shard's file."""
    return f"{folder_of(info)}/{info.stored.basename}"


def folder_name(info: ShardInfo) -> str:
    """Return the name of the folder of a shard when it was adopted: it is in its source ids."""
    return PurePosixPath(original_folder(info)).name


@lru_cache(maxsize=32)
def folder_storage(folder: str) -> Storage:
    """Return the storage of an adopted folder."""
    return open_storage(folder)


def original_copy(info: ShardInfo) -> AbstractContextManager[Path]:
    """Provide a local file with the folder's current bytes, without a cache, in a `with`."""
    return folder_storage(folder_of(info)).original(info.stored.basename)


def sizes_of(shards: Iterable[ShardInfo]) -> dict[str, int]:
    """Return the current sizes in bytes of the files of adopted shards, by the shards' paths."""
    sizes: dict[str, dict[str, int]] = {}
    found = {}
    for info in shards:
        folder = folder_of(info)
        if folder not in sizes:
            sizes[folder] = {file.key: file.size for file in folder_storage(folder).list("")}
        if info.stored.basename in sizes[folder]:
            found[info.path] = sizes[folder][info.stored.basename]
    return found


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
        raise CorruptError(f"{location_of(info)}: {reason}. {CHANGED}") from None
    return AdoptedShard(
        shard.data, TEXT_COLUMNS, shard.starts, shard.ends, shard.samples, shard.name, shard, info
    )


def _read_copy(info: ShardInfo) -> Shard:
    storage, name = folder_storage(folder_of(info)), info.stored.basename
    with storage.local(name) as path:
        try:
            return read_shard(path, info.index)
        except CorruptError:
            if str(path) == location_of(info):
                raise
    # The cached copy may be older than the adoption, or from the moment of a change.
    storage.discard_copy(name)
    with storage.local(name) as path:
        return read_shard(path, info.index)


def _reason(error: CorruptError) -> str:
    """Return the reason of an error without the name of the file."""
    return str(error).partition(": ")[2].partition(". ")[0]
