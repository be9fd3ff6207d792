"""The view of a store: its corpora, critics and families, and their alignment."""

from dataclasses import asdict, dataclass, field
from typing import Any

from ixt_data.console import format_count
from ixt_data.log import SEARCH, TEXT, ShardInfo, Snapshot
from ixt_data.store import Store


@dataclass
class FamilyView:
    """A family of a corpus.

    Attributes:
        family: name of the family.
        corpus: name of the corpus.
        shards: number of shards.
        samples: number of samples.
        bytes: stored bytes.
        raw_bytes: uncompressed bytes.
        aligned: text shards with an aligned shard of the family.
        of: text shards of the corpus.
        columns: MDS encodings by name.
    """

    family: str
    corpus: str
    shards: int = 0
    samples: int = 0
    bytes: int = 0
    raw_bytes: int = 0
    aligned: int = 0
    of: int = 0
    columns: dict[str, str] = field(default_factory=dict)


@dataclass
class StoreView:
    """A store at a snapshot."""

    root: str
    snapshot: int
    tags: dict[str, int]
    corpora: dict[str, int]
    critics: dict[str, str]
    selections: list[str]
    rows: dict[str, int]
    rows_bytes: int
    families: list[FamilyView]
    problems: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return the view as JSON values."""
        return {"kind": "store", **asdict(self)}


def view_store(store: Store, at: int | str | None = None, *, verify: bool = False) -> StoreView:
    """Return the view of a store; with `verify`, read every file as `ixt verify` does."""
    snapshot = store.snapshot(at)
    rows: dict[str, int] = {}
    for file in snapshot.rows.values():
        rows[file.table] = rows.get(file.table, 0) + file.rows
    problems = list(misaligned(snapshot))
    if verify:
        from ixt_data.maintenance import verify as check

        problems += [f"{fault.path}: {fault.problem}" for fault in check(store).problems]
    return StoreView(
        root=store.root,
        snapshot=snapshot.version,
        tags=store.tags(),
        corpora={name: corpus.documents for name, corpus in snapshot.corpora.items()},
        critics={critic.id: critic.name for critic in snapshot.critics.values()},
        selections=list(snapshot.selections),
        rows=rows,
        rows_bytes=sum(file.bytes for file in snapshot.rows.values()),
        families=families(snapshot),
        problems=problems,
    )


def families(snapshot: Snapshot) -> list[FamilyView]:
    """Return every family of every corpus, text first."""
    text = {shard.path for shard in snapshot.family(TEXT)}
    views: dict[tuple[str, str], FamilyView] = {}
    covered: dict[tuple[str, str], set[str]] = {}
    for shard in snapshot.shards:
        key = (shard.family, shard.corpus)
        view = views.setdefault(key, FamilyView(*key))
        view.shards += 1
        view.samples += shard.samples
        view.bytes += shard.stored.bytes
        view.raw_bytes += shard.raw.bytes
        view.columns |= columns_of(shard)
        of = shard.path if shard.family == TEXT else shard.aligned_with
        if of is not None and (base := _text_of(snapshot, of)) in text:
            covered.setdefault(key, set()).add(base)
    for key, view in views.items():
        view.aligned = len(covered.get(key, ()))
        view.of = sum(1 for shard in snapshot.family(TEXT) if shard.corpus == view.corpus)
    return sorted(views.values(), key=lambda view: (view.corpus, view.family != TEXT, view.family))


def _text_of(snapshot: Snapshot, path: str) -> str:
    """Return the text shard of a chain: tokens align with critiques, critiques with texts."""
    shard = snapshot.shards_by_path.get(path)
    return (
        path
        if shard is None or shard.aligned_with is None
        else _text_of(snapshot, shard.aligned_with)
    )


def columns_of(shard: ShardInfo) -> dict[str, str]:
    """Return MDS encodings by column, from the log."""
    index = shard.index
    return dict(zip(index["column_names"], index["column_encodings"], strict=True))


def misaligned(snapshot: Snapshot) -> list[str]:
    """Return shards whose aligned shard is missing or has another number of samples.

    An index of a shard that later critiques have replaced is not a problem: no search reads it,
    and the next `ixt search --index` removes it.
    """
    problems = []
    for shard in snapshot.shards:
        if shard.aligned_with is None:
            continue
        other = snapshot.shards_by_path.get(shard.aligned_with)
        if other is None and shard.family.startswith(f"{SEARCH}/"):
            continue
        if other is None:
            problems.append(
                f"{shard.path}: aligned with {shard.aligned_with}, which is not in the snapshot"
            )
        elif other.samples != shard.samples:
            problems.append(
                f"{shard.path}: {format_count(shard.samples, 'sample')}; {other.path}, "
                f"which it is aligned with, has {other.samples:,}"
            )
    return problems


def aligned_with(snapshot: Snapshot, path: str) -> dict[str, str]:
    """Return the shards of other families that are aligned with a shard, by family."""
    text = _text_of(snapshot, path)
    return {
        shard.family: shard.path
        for shard in snapshot.shards
        if shard.path != path and (shard.path == text or _text_of(snapshot, shard.path) == text)
    }
