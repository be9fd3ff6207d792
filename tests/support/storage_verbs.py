"""Verbs that write to a store, and the checks of their results for the tests of faults."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from small_stores import Length, add_documents

from ixt_data.critique_runs import annotate
from ixt_data.errors import CommitStateUnknown, WriteStateUnknown
from ixt_data.ingestion import ingest
from ixt_data.log import Entry, SelectionInfo
from ixt_data.maintenance.compaction import compact
from ixt_data.maintenance.garbage_collection import collect_garbage
from ixt_data.maintenance.verification import verify
from ixt_data.mds import SHARD_BYTES
from ixt_data.store import Store, save_selection

DOCUMENTS, NEW = 24, 5
TAG, TAGGED = "old", 2
VERSIONS = 41
"""Versions of the base store before its last 8 commits: the verbs commit version 50."""


def create_base(root: str | Path, versions: int = 1) -> None:
    """Create a store with documents, critiques, a tag, garbage and at least some versions."""
    store = Store.init(root)
    texts = [f"document {i}" for i in range(DOCUMENTS)]
    add_documents(store, texts[:12], per_shard=6)
    add_documents(store, texts[12:], per_shard=6)
    store.tag(TAG)
    for i in range(store.snapshot().version, versions):
        info = SelectionInfo(f"s{i % 3}", "n_chars > 1", documents=DOCUMENTS)
        store.log.commit(Entry(0, f"{i:032x}", "select", selections=[info]), i)
    annotate(store, "web", Length(name="first"))
    compact(store, min_files=2)
    for i in range(2):
        add_documents(store, [f"{i}"], corpus="small")
    stale = store.begin("ingest")
    (stale.scratch / "half").write_text("x")


@dataclass(frozen=True)
class Verb:
    """A verb.

    Attributes:
        run: runs it.
        is_visible: returns whether its result is in the store; True also for a part of it.
        is_complete: returns whether all of its result is in the store.
        is_atomic: True if it makes one change, which is visible or not.
    """

    run: Callable[[Store], Any]
    is_visible: Callable[[Store], bool]
    is_complete: Callable[[Store], bool]
    is_atomic: bool = True


def count(store: Store, sql: str, at: int | str | None = None) -> int:
    return int(store.sql(f"SELECT count(*) FROM {sql}", at=at).fetchall()[0][0])


def _ingest(store: Store, shard_bytes: float = SHARD_BYTES) -> None:
    folder = Path(store.root).parent if "://" not in store.root else Path.cwd()
    path = folder / "new.jsonl"
    # A file that is written again is another input: its journal is not continued.
    if not path.exists():
        path.write_bytes(b"\n".join(orjson.dumps({"text": f"new {i}"}) for i in range(NEW)))
    report = ingest(store, "web", [path], shard_bytes=shard_bytes, workers=1)
    assert report.documents + report.duplicates == NEW


def _ingest_shards(store: Store) -> None:
    """Ingest the same documents in three shards, with a journal."""
    _ingest(store, 100)


def _ingested(store: Store) -> int:
    return count(store, "documents WHERE corpus = 'web'") - DOCUMENTS


def _critique(store: Store) -> None:
    annotate(store, "web", Length(name="second"))


def _critiqued(store: Store) -> int:
    return count(store, "critiques WHERE critic = 'second'")


def _compact(store: Store) -> None:
    compact(store, min_files=2)


def _is_compact(store: Store) -> bool:
    return len([f for f in store.snapshot().rows.values() if f.partition == "small"]) == 1


def _collect(store: Store) -> None:
    collect_garbage(store, keep_versions=1, keep=timedelta(0), grace=timedelta(0))


def _is_clean(store: Store) -> bool:
    return verify(store).orphans == []


def _tag(store: Store) -> None:
    store.tag("new", at=TAG)


def _untag(store: Store) -> None:
    store.untag(TAG) if TAG in store.tags() else None


def _pin(store: Store) -> None:
    with store.pins.hold(store.snapshot(TAG).version, "job"):
        pass


def _select(store: Store) -> None:
    save_selection(store, "chosen", "n_chars > 2")


VERBS = {
    "ingest": Verb(_ingest, lambda s: _ingested(s) > 0, lambda s: _ingested(s) == NEW),
    "ingest of three shards": Verb(
        _ingest_shards, lambda s: _ingested(s) > 0, lambda s: _ingested(s) == NEW
    ),
    "critique": Verb(
        _critique, lambda s: _critiqued(s) > 0, lambda s: _critiqued(s) == DOCUMENTS, False
    ),
    "compact": Verb(_compact, _is_compact, _is_compact, False),
    "gc": Verb(_collect, _is_clean, _is_clean, False),
    "tag": Verb(_tag, lambda s: "new" in s.tags(), lambda s: s.tags()["new"] == s.tags()[TAG]),
    "untag": Verb(_untag, lambda s: TAG not in s.tags(), lambda s: TAG not in s.tags()),
    "pin": Verb(_pin, lambda s: False, lambda s: True, False),
    "select save": Verb(
        _select,
        lambda s: "chosen" in s.snapshot().selections,
        lambda s: s.snapshot().selections["chosen"].documents >= DOCUMENTS,
    ),
}


def run_with_fault(verb: Verb, faulty: Store, clean: Callable[[], Store]) -> bool:
    """Run a verb on a store whose storage fails once; check the store, repeat it, check again.

    Args:
        verb: the verb.
        faulty: the store with the fault.
        clean: opens the same store without a fault.

    Returns:
        True if the verb raised an error.
    """
    error = None
    try:
        verb.run(faulty)
    except Exception as raised:
        error = raised
    store = clean()
    if error is None:
        assert verb.is_complete(store), "the verb returned, and its result is not visible"
    elif verb.is_atomic and not isinstance(error, CommitStateUnknown | WriteStateUnknown):
        assert not verb.is_visible(store), f"the verb raised {error!r}, and its result is visible"
    check(store)
    verb.run(store)
    store = clean()
    assert verb.is_complete(store), f"incomplete after a repetition; before it: {error!r}"
    check(store)
    return error is not None


def check(store: Store) -> None:
    """Check that the store is intact, and that nothing acknowledged is lost."""
    assert verify(store).problems == []
    counts = store.sql(
        "SELECT (SELECT count(*) FROM critiques WHERE critic = 'first'), "
        "count(*) FILTER (corpus = 'web'), count(*) FILTER (corpus = 'small') FROM documents"
    ).fetchall()
    assert counts in ([(DOCUMENTS, DOCUMENTS, 2)], [(DOCUMENTS, DOCUMENTS + NEW, 2)])
    if TAG in store.tags():
        assert store.snapshot(TAG).corpora["web"].documents == DOCUMENTS
        missing = [path for path in store.snapshot(TAG).rows if not store.storage.exists(path)]
        assert missing == []
