"""Shards of adopted folders, read as if the store had written them.

Such a folder stays where it is and as it is. What its shards lack is made while they are read:
`doc_id` from the text, `source` and `source_id` from other columns or from the sample's place.
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
    "the adopted folder was changed: restore this file as it was, or adopt a copy of the folder "
    "as another corpus"
)


@dataclass(frozen=True)
class AdoptedShard(Shard):
    """A text shard of an adopted folder, with the columns of the family `text`.

    Attributes:
        original: the shard with its own columns.
        info: which of them are the text, the id and the source.
    """

    original: Shard
    info: ShardInfo

    def column(self, name: str) -> list[Any]:
        """See `Shard.column`: one of `TEXT_COLUMNS`."""
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
            CorruptError: one is not UTF-8.
        """
        try:
            return self.original.column((self.info.fields or {})["text"])
        except UnicodeDecodeError as error:
            raise CorruptError(f"{self.info.path}: a text is not UTF-8 ({error})") from None


def folder_of(info: ShardInfo) -> str:
    """The adopted folder that a shard is in: a path, or an address."""
    return info.path.removesuffix(f"/{info.stored.basename}")


def folder_name(info: ShardInfo) -> str:
    """The name of the adopted folder that a shard is in."""
    return PurePosixPath(folder_of(info)).name


@lru_cache(maxsize=32)
def place_of(folder: str) -> Storage:
    """An adopted folder as a place for files."""
    return open_storage(folder)


def local_copy(info: ShardInfo) -> Path:
    """A local file of an adopted shard: itself, or a copy that was made before.

    Raises:
        FileNotFoundError: it is gone.
    """
    return place_of(folder_of(info)).local(info.stored.basename)


def original(info: ShardInfo) -> AbstractContextManager[Path]:
    """A local file with what the folder itself holds now, while the block runs."""
    return place_of(folder_of(info)).original(info.stored.basename)


def sizes_of(shards: Iterable[ShardInfo]) -> dict[str, int]:
    """Bytes of the files that are in the folders of some adopted shards now, by path."""
    places = [place_of(folder) for folder in {folder_of(info) for info in shards}]
    return {f"{p.root}/{file.key}": file.size for p in places for file in p.list("")}


def read_adopted(info: ShardInfo, path: Path | None = None) -> AdoptedShard:
    """Reads a shard of an adopted folder and checks that it is as it was.

    Args:
        info: which.
        path: a local file of it, if there is one already.

    Raises:
        CorruptError: it is not.
    """
    try:
        shard = read_shard(path, info.index) if path else _read_copy(info)
    except (CorruptError, FileNotFoundError) as error:
        what = "missing" if isinstance(error, FileNotFoundError) else _what(error)
        raise CorruptError(f"{info.path}: {what}. {CHANGED}") from None
    return AdoptedShard(
        shard.data, TEXT_COLUMNS, shard.starts, shard.ends, shard.samples, shard, info
    )


def _read_copy(info: ShardInfo) -> Shard:
    path = local_copy(info)
    try:
        return read_shard(path, info.index)
    except CorruptError:
        if str(path) == info.path:
            raise
    # The copy may be of what was there before it was adopted, or while it was changed.
    path.unlink(missing_ok=True)
    return read_shard(local_copy(info), info.index)


def _what(error: CorruptError) -> str:
    """What is wrong, without the name of the file that was read."""
    return str(error).partition(": ")[2].partition(". ")[0]
