"""Shards of adopted folders, read as if the store had written them.

Such a folder stays where it is and as it is. What its shards lack is made while they are read:
`doc_id` from the text, `source` and `source_id` from other columns or from the sample's place.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from ixt_data.errors import CorruptError
from ixt_data.ingest.records import as_text
from ixt_data.model import document_id
from ixt_data.shards import TEXT_COLUMNS, Shard, read_shard
from ixt_data.snapshot import ShardInfo

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


def folder_name(info: ShardInfo) -> str:
    """The name of the adopted folder that a shard is in."""
    return PurePosixPath(info.path.removesuffix(f"/{info.stored.basename}")).name


def read_adopted(info: ShardInfo) -> AdoptedShard:
    """Reads a shard of an adopted folder and checks that it is as it was.

    Raises:
        CorruptError: it is not.
    """
    try:
        original = read_shard(Path(info.path), info.index)
    except CorruptError as error:
        raise CorruptError(f"{str(error).partition('. ')[0]}. {CHANGED}") from None
    return AdoptedShard(
        original.data,
        TEXT_COLUMNS,
        original.starts,
        original.ends,
        original.samples,
        original,
        info,
    )
