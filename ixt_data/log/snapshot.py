"""The state of a store at one version, as its log entries define it."""

import sys
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

import orjson

from ixt_data.errors import StoreError
from ixt_data.log.records import Records
from ixt_data.log.saved import QueryInfo, SavedQuery, SavedSelection, SelectionInfo

FORMAT = 2
"""Format of the stores and log entries that this version of ixt writes and reads."""

TEXT, TOKENS, SEARCH = "text", "tokens", "search"
HUMAN = "human"
"""Name of the critic of people's labels."""


def family_unit(family: str, shard: str) -> str:
    """Return the unit of work that writes the aligned shard of a family: tokens, or an index."""
    return f"{family}:{shard}"


@dataclass(frozen=True, slots=True)
class RowsFile:
    """One Parquet file of rows.

    Attributes:
        path: `meta/<table>/<partition>/<txn>-n.parquet`.
        table: `documents` or `critiques`.
        partition: the corpus, or the critic's id.
        rows: number of rows.
        bytes: size of the file in bytes.
        sha256: hash of the file, hexadecimal.
        schema: DuckDB type by column.
        generation: rows of a higher generation replace rows of a lower one with the same key.
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
    """A shard's file as in index.json: name, size in bytes, hexadecimal hashes by algorithm."""

    basename: str
    bytes: int
    hashes: dict[str, str]


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One MDS shard.

    Attributes:
        path: `shards/<family>/<txn>/shard.NNNNN.mds.zstd`; in an adopted folder an absolute path
            or an address.
        family: `text`, `critique/<critic id>`, `thinking/<critic id>`, `tokens/<tokenizer id>`,
            `search/<indexed family>`.
        corpus: corpus of the documents.
        samples: number of samples.
        raw, packed: the file before and after compression; `packed` is None without compression.
        config: the fields of index.json that all shards of the family share, as canonical JSON.
        aligned_with: path of the shard with the same samples in the same order; None for a text
            shard. Tokens and indexes are aligned with the shard that
            they encode.
        fields: the columns of an adopted shard for `text`, `source_id` and `source`, and its
            present `folder` if that has moved; None for
            shards that the store has written.
        orphans: samples of a text shard that are not documents: duplicates, and empty texts.
    """

    path: str
    family: str
    corpus: str
    samples: int
    raw: FileInfo
    packed: FileInfo | None
    config: str
    aligned_with: str | None = None
    fields: dict[str, str] | None = None
    orphans: int = 0

    @classmethod
    def from_index(
        cls,
        folder: str,
        family: str,
        corpus: str,
        index: dict[str, Any],
        aligned_with: str | None = None,
    ) -> "ShardInfo":
        """Build the record from a shard's entry of index.json."""
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
            aligned_with,
        )

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "ShardInfo":
        """Build the record from a log entry."""
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
        """The shard's entry of index.json."""
        packed = asdict(self.packed) if self.packed else None
        sizes = {"samples": self.samples, "raw_data": asdict(self.raw), "zip_data": packed}
        return {**orjson.loads(self.config), **sizes}

    @property
    def stored(self) -> FileInfo:
        """The file that the store contains."""
        return self.packed or self.raw

    @property
    def is_external(self) -> bool:
        """True if the shard is in an adopted folder: the store never changes or deletes it."""
        return self.fields is not None

    @property
    def text_column(self) -> str:
        """The column of a text shard that contains the texts."""
        return (self.fields or {"text": "text"})["text"]


@dataclass(frozen=True, slots=True)
class CriticInfo:
    """A critic that has written to the store: id, name, and the config that the id hashes."""

    id: str
    name: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CorpusInfo:
    """A corpus at this version: its name, documents and text shards."""

    name: str
    documents: int
    shards: int


@dataclass(slots=True)
class Entry:
    """One commit: the content of its log entry.

    Attributes:
        version: number of the version, from 1.
        txn: transaction id that the writer chose, 32 hexadecimal digits.
        op: the verb: `ingest`, `critique`, `select`.
        created: time of the commit, UTC, ISO 8601.
        unit: the unit of work that the commit publishes, if any.
        rows_add, rows_remove: new files of rows, and paths of removed ones.
        shards_add, shards_remove: new shards, and paths of removed ones.
        critics: critics that first appear in this commit.
        units_remove: units that workers must process again.
        aborted_transactions: transactions that can no longer commit.
        min_version: oldest retained version; older ones expire.
        selections: saved selections; each replaces an earlier one of the same name.
        selections_remove: names of dropped selections.
        queries: saved queries; each replaces an earlier one of the same name.
        queries_remove: names of dropped queries.
        summary: human-readable metrics.
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
    aborted_transactions: list[str] = field(default_factory=list)
    min_version: int | None = None
    selections: list[SelectionInfo] = field(default_factory=list)
    selections_remove: list[str] = field(default_factory=list)
    queries: list[QueryInfo] = field(default_factory=list)
    queries_remove: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the fields that are not empty."""
        return {key: value for key, value in asdict(self).items() if value not in (None, [], {})}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Entry":
        """Parse an entry that `to_json` wrote.

        Raises:
            StoreError: the entry has unknown fields, for example from a newer version of ixt.
        """
        if unknown := record.keys() - _ENTRY_FIELDS:
            raise StoreError(
                f"version {record.get('version')} was committed by another version of ixt: its log "
                f"entry has the unknown fields {', '.join(sorted(unknown))}. Upgrade ixt"
            )
        parsed = dict(record)
        parsed["rows_add"] = [RowsFile(**item) for item in record.get("rows_add", [])]
        parsed["shards_add"] = [ShardInfo.from_json(item) for item in record.get("shards_add", [])]
        parsed["critics"] = [CriticInfo(**item) for item in record.get("critics", [])]
        parsed["selections"] = [SelectionInfo(**item) for item in record.get("selections", [])]
        parsed["queries"] = [QueryInfo(**item) for item in record.get("queries", [])]
        return cls(**parsed)


_ENTRY_FIELDS = {item.name for item in fields(Entry)}


@dataclass
class Snapshot:
    """An immutable numbered state of the store.

    Attributes:
        version: number of the version; 0 is an empty store.
        rows: files of rows by path, in the order of their commits.
        shards_by_path: shards by path, in the order of their commits.
        commits: version and unit by transaction.
        units: transaction that published a unit, by unit.
        requeued: units that workers must process again; their old rows are still in the state.
        critics: by id, in the order of their first commit.
        min_version: oldest retained version; older ones expire unless a pin protects them.
        selections: saved selections by name, in the order of their first commits.
        queries: saved queries by name, in the order of their first commits.
    """

    version: int = 0
    rows: Records[RowsFile] = field(default_factory=Records)
    shards_by_path: Records[ShardInfo] = field(default_factory=Records)
    commits: Records[tuple[int, str | None]] = field(default_factory=Records)
    units: Records[str] = field(default_factory=Records)
    requeued: set[str] = field(default_factory=set)
    critics: dict[str, CriticInfo] = field(default_factory=dict)
    min_version: int = 0
    selections: dict[str, SavedSelection] = field(default_factory=dict)
    queries: dict[str, SavedQuery] = field(default_factory=dict)

    def copy(self) -> "Snapshot":
        """Return a copy that `apply` can change independently."""
        return Snapshot(
            self.version,
            self.rows.copy(),
            self.shards_by_path.copy(),
            self.commits.copy(),
            self.units.copy(),
            set(self.requeued),
            dict(self.critics),
            self.min_version,
            dict(self.selections),
            dict(self.queries),
        )

    def apply(self, entry: Entry) -> None:
        """Apply one entry to this state in place. Only the replay of a log calls this."""
        for path in entry.rows_remove:
            self.rows.discard(path)
        for path in entry.shards_remove:
            self.shards_by_path.discard(path)
        self.rows.add((rows.path, rows) for rows in entry.rows_add)
        self.shards_by_path.add((shard.path, shard) for shard in entry.shards_add)
        for critic in entry.critics:
            self.critics.setdefault(critic.id, critic)
        for unit in entry.units_remove:
            self.units.discard(unit)
            self.requeued.add(unit)
        self.commits.add([(entry.txn, (entry.version, entry.unit))])
        if entry.unit is not None:
            self.units.add([(entry.unit, entry.txn)])
            self.requeued.discard(entry.unit)
        for name in entry.selections_remove:
            self.selections.pop(name, None)
        for info in entry.selections:
            saved = SavedSelection(**asdict(info), version=entry.version, created=entry.created)
            self.selections[info.name] = saved
        for name in entry.queries_remove:
            self.queries.pop(name, None)
        for query in entry.queries:
            known = SavedQuery(**asdict(query), version=entry.version, created=entry.created)
            self.queries[query.name] = known
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

    def check_corpora(self, names: Iterable[str], root: str) -> None:
        """Check that the corpora exist in the snapshot.

        Raises:
            StoreError: one does not exist; `root` names the store.
        """
        for name in names:
            if name not in self.corpora:
                known = ", ".join(self.corpora) or "none"
                raise StoreError(f"no corpus {name!r} in {root}; corpora: {known}")

    def family(self, family: str) -> list[ShardInfo]:
        """Return the shards of one family, in the order of their commits."""
        return [shard for shard in self.shards if shard.family == family]

    def text_shards(self, corpora: Collection[str] | None = None) -> list[ShardInfo]:
        """Return the text shards of some corpora, all by default."""
        shards = self.family(TEXT)
        return [shard for shard in shards if corpora is None or shard.corpus in corpora]

    def aligned(self, text_shard: str, family: str) -> ShardInfo | None:
        """Return the newest shard of `family` aligned with a text shard, or None."""
        return self._aligned.get((text_shard, family))

    @cached_property
    def _aligned(self) -> dict[tuple[str, str], ShardInfo]:
        return {
            (shard.aligned_with, shard.family): shard
            for shard in self.shards
            if shard.aligned_with is not None
        }

    def without_critic(self, name: str) -> "Snapshot":
        """Return the state as it is without the rows and shards of the critics with this name."""
        state = self.copy()
        for critic in self.critic_ids(name):
            del state.critics[critic]
            own = ("critiques", critic)
            for path in [f.path for f in self.rows.values() if (f.table, f.partition) == own]:
                state.rows.discard(path)
            for path in [one.path for one in self.shards if critic in one.family.split("/")]:
                state.shards_by_path.discard(path)
        return state

    def critic_ids(self, name: str) -> list[str]:
        """Return the ids of the critics with this name, oldest first."""
        return [critic.id for critic in self.critics.values() if critic.name == name]

    def newest_critique(self, text_shard: str, name: str) -> ShardInfo | None:
        """Return the shard with the latest critiques by `name` of a text shard, or None."""
        for critic in reversed(self.critic_ids(name)):
            if (shard := self.aligned(text_shard, f"critique/{critic}")) is not None:
                return shard
        return None
