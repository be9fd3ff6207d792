"""The state of a store at one version: what its log says is there."""

import sys
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

import orjson

from ixt_data.errors import StoreError

FORMAT = 1
"""Of stores and log entries that are written and read here."""

TEXT, TOKENS = "text", "tokens"


def tokens_unit(family: str, shard: str) -> str:
    """The unit of work that writes the tokens of a text or critique shard."""
    return f"{family}:{shard}"


@dataclass(frozen=True, slots=True)
class RowsFile:
    """One Parquet file of rows.

    Attributes:
        path: `meta/<table>/<lane>/<txn>-n.parquet`.
        table: `documents` or `critiques`.
        lane: the corpus, or the critic's id.
        rows: how many.
        bytes: size of the file.
        sha256: of the file, hexadecimal.
        schema: DuckDB type by column.
        generation: rows of a higher one replace those of a lower one with the same key.
    """

    path: str
    table: str
    partition: str
    rows: int
    bytes: int
    sha256: str
    schema: dict[str, str]
    generation: int = 0


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A shard's file as index.json has it: name, size, hexadecimal hashes by algorithm."""

    basename: str
    bytes: int
    hashes: dict[str, str]


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One MDS shard.

    Attributes:
        path: `shards/<family>/<txn>/shard.NNNNN.mds.zstd`; in an adopted folder absolute,
            or an address.
        family: `text`, `critique/<critic id>`, `thinking/<critic id>`, `tokens/<tokenizer id>`.
        corpus: whose documents it holds.
        samples: how many.
        raw, packed: size and hashes of the file, uncompressed and compressed (None: it is not).
        config: what all shards of the family say of themselves, as canonical JSON.
        of: path of the text shard it is aligned with, None for a text shard; tokens are aligned
            with the text or critique shard whose tokens they are.
        fields: columns of an adopted shard that are `text`, `source_id` and `source`, as far as it
            has them; None for shards that the store itself has written.
        orphans: samples of a text shard that are no document: duplicates, and empty texts.
    """

    path: str
    family: str
    corpus: str
    samples: int
    raw: FileInfo
    packed: FileInfo | None
    config: str
    of: str | None = None
    fields: dict[str, str] | None = None
    orphans: int = 0

    @classmethod
    def from_index(
        cls, folder: str, family: str, corpus: str, index: dict[str, Any], of: str | None = None
    ) -> "ShardInfo":
        """From an entry of the folder's index.json."""
        raw, packed = index["raw_data"], index.get("zip_data")
        own = ("samples", "raw_data", "zip_data")
        config = orjson.dumps(
            {key: value for key, value in index.items() if key not in own},
            option=orjson.OPT_SORT_KEYS,
        ).decode()
        return cls(
            f"{folder}/{(packed or raw)['basename']}",
            family,
            corpus,
            index["samples"],
            FileInfo(raw["basename"], raw["bytes"], raw["hashes"]),
            packed and FileInfo(packed["basename"], packed["bytes"], packed["hashes"]),
            sys.intern(config),
            of,
        )

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "ShardInfo":
        """From a log entry."""
        packed = record.get("packed")
        return cls(
            **{
                **record,
                "raw": FileInfo(**record["raw"]),
                "packed": packed and FileInfo(**packed),
                "config": sys.intern(record["config"]),
            }
        )

    @property
    def index(self) -> dict[str, Any]:
        """Its entry of index.json."""
        packed = asdict(self.packed) if self.packed else None
        sizes = {"samples": self.samples, "raw_data": asdict(self.raw), "zip_data": packed}
        return {**orjson.loads(self.config), **sizes}

    @property
    def stored(self) -> FileInfo:
        """The file that is in the store."""
        return self.packed or self.raw

    @property
    def outside(self) -> bool:
        """Whether it is in an adopted folder: read by the store, and never changed or deleted."""
        return self.fields is not None

    @property
    def text_column(self) -> str:
        """The column of a text shard that holds the texts."""
        return (self.fields or {"text": "text"})["text"]


@dataclass(frozen=True, slots=True)
class CriticInfo:
    """A critic that has written to the store: id, name, and the config that the id is a hash of."""

    id: str
    name: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SelectionInfo:
    """A selection that is kept in the store, so that queries and mixes can use its name.

    Attributes:
        name: what it is called.
        where: the predicate, SQL over documents and the critic's critiques.
        critic: whose critiques it sees, by name or id; None sees only documents.
        note: why it is so, for people.
        documents: how many it found in the snapshot that it was saved from.
    """

    name: str
    where: str
    critic: str | None = None
    note: str = ""
    documents: int = 0


@dataclass(frozen=True, slots=True)
class SavedSelection(SelectionInfo):
    """A selection as a snapshot has it: with the version that saved it, and when that was."""

    version: int = 0
    created: str = ""


@dataclass(frozen=True, slots=True)
class CorpusInfo:
    """A corpus at this version: its name, documents and text shards."""

    name: str
    documents: int
    shards: int


@dataclass(slots=True)
class Entry:
    """One commit, as its log entry says it.

    Attributes:
        version: its number, from 1.
        txn: 32 hexadecimal digits, the writer's own.
        op: the verb: `ingest`, `critique`, `select`.
        created: UTC, ISO 8601.
        unit: the unit of work that it publishes, if any.
        rows_add, rows_remove: files of rows and paths of files of rows.
        shards_add, shards_remove: shards and paths of shards.
        critics: critics that are new with this commit.
        units_remove: units that are to be done again.
        abort: transactions that can no longer land.
        min_version: versions below it are let go.
        selections: selections that it saves, new or instead of those of the same names.
        selections_remove: names of selections that it drops.
        summary: figures for people.
    """

    version: int
    txn: str
    op: str
    created: str = ""
    unit: str | None = None
    rows_add: list[RowsFile] = field(default_factory=list)
    rows_remove: list[str] = field(default_factory=list)
    shards_add: list[ShardInfo] = field(default_factory=list)
    shards_remove: list[str] = field(default_factory=list)
    critics: list[CriticInfo] = field(default_factory=list)
    units_remove: list[str] = field(default_factory=list)
    abort: list[str] = field(default_factory=list)
    min_version: int | None = None
    selections: list[SelectionInfo] = field(default_factory=list)
    selections_remove: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything that is not empty."""
        return {key: value for key, value in asdict(self).items() if value not in (None, [], {})}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Entry":
        """The entry that `to_json` wrote.

        Raises:
            StoreError: a newer version of ixt wrote it, with fields that are not known here.
        """
        if unknown := record.keys() - _ENTRY_FIELDS:
            raise StoreError(
                f"version {record.get('version')} was committed by a newer ixt: its log entry has "
                f"{', '.join(sorted(unknown))}. Upgrade ixt"
            )
        parsed = dict(record)
        parsed["rows_add"] = [RowsFile(**item) for item in record.get("rows_add", [])]
        parsed["shards_add"] = [ShardInfo.from_json(item) for item in record.get("shards_add", [])]
        parsed["critics"] = [CriticInfo(**item) for item in record.get("critics", [])]
        parsed["selections"] = [SelectionInfo(**item) for item in record.get("selections", [])]
        return cls(**parsed)


_ENTRY_FIELDS = {item.name for item in fields(Entry)}


@dataclass
class Snapshot:
    """An immutable numbered state of the store.

    Attributes:
        version: its number; 0 is an empty store.
        rows: files of rows by path, in the order of their commits.
        shards_by_path: shards by path, in the order of their commits.
        commits: version and unit by transaction.
        units: transaction that published each unit.
        requeued: units that are to be done again, whose old rows still stand.
        critics: by id, in the order of their first commit.
        min_version: versions below it are let go, unless a pin holds them.
        selections: saved selections by name, in the order in which they were first saved.
    """

    version: int = 0
    rows: dict[str, RowsFile] = field(default_factory=dict)
    shards_by_path: dict[str, ShardInfo] = field(default_factory=dict)
    commits: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    requeued: set[str] = field(default_factory=set)
    critics: dict[str, CriticInfo] = field(default_factory=dict)
    min_version: int = 0
    selections: dict[str, SavedSelection] = field(default_factory=dict)

    def copy(self) -> "Snapshot":
        """One that can be moved on by itself."""
        return Snapshot(
            self.version,
            dict(self.rows),
            dict(self.shards_by_path),
            dict(self.commits),
            dict(self.units),
            set(self.requeued),
            dict(self.critics),
            self.min_version,
            dict(self.selections),
        )

    def apply(self, entry: Entry) -> None:
        """Moves this state on by one entry, in place: only while a log is replayed."""
        for path in entry.rows_remove:
            self.rows.pop(path, None)
        for path in entry.shards_remove:
            self.shards_by_path.pop(path, None)
        self.rows.update((rows.path, rows) for rows in entry.rows_add)
        self.shards_by_path.update((shard.path, shard) for shard in entry.shards_add)
        for critic in entry.critics:
            self.critics.setdefault(critic.id, critic)
        for unit in entry.units_remove:
            self.units.pop(unit, None)
            self.requeued.add(unit)
        self.commits[entry.txn] = (entry.version, entry.unit)
        if entry.unit is not None:
            self.units[entry.unit] = entry.txn
            self.requeued.discard(entry.unit)
        for name in entry.selections_remove:
            self.selections.pop(name, None)
        for info in entry.selections:
            saved = SavedSelection(**asdict(info), version=entry.version, created=entry.created)
            self.selections[info.name] = saved
        self.min_version = max(self.min_version, entry.min_version or 0)
        self.version = entry.version

    @property
    def shards(self) -> tuple[ShardInfo, ...]:
        """All shards, in the order of their commits."""
        return tuple(self.shards_by_path.values())

    @cached_property
    def corpora(self) -> dict[str, CorpusInfo]:
        """The corpora by name, in the order of their first commit."""
        documents: dict[str, int] = {}
        for rows in self.rows.values():
            if rows.table == "documents":
                documents[rows.partition] = documents.get(rows.partition, 0) + rows.rows
        shards = [shard.corpus for shard in self.shards if shard.family == TEXT]
        return {name: CorpusInfo(name, n, shards.count(name)) for name, n in documents.items()}

    def family(self, family: str) -> list[ShardInfo]:
        """The shards of one family, in the order of their commits."""
        return [shard for shard in self.shards if shard.family == family]

    def text_shards(self, corpora: Collection[str] | None = None) -> list[ShardInfo]:
        """The text shards of some corpora, all by default."""
        shards = self.family(TEXT)
        return [shard for shard in shards if corpora is None or shard.corpus in corpora]

    def aligned(self, text_shard: str, family: str) -> ShardInfo | None:
        """The newest shard of `family` aligned with a text shard, None if there is none."""
        return self._aligned.get((text_shard, family))

    @cached_property
    def _aligned(self) -> dict[tuple[str, str], ShardInfo]:
        return {(shard.aligned_with, shard.family): shard for shard in self.shards if shard.aligned_with is not None}

    def critic_ids(self, name: str) -> list[str]:
        """The ids under which the critic `name` has written, oldest first."""
        return [critic.id for critic in self.critics.values() if critic.name == name]

    def newest_critique(self, text_shard: str, name: str) -> ShardInfo | None:
        """The critique shard that holds the latest critiques by `name` of a text shard."""
        for critic in reversed(self.critic_ids(name)):
            if (shard := self.aligned(text_shard, f"critique/{critic}")) is not None:
                return shard
        return None
