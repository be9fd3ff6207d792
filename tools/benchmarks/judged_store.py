"""A large store, built quickly: documents of several sources with critiques by two critics."""

import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from ixt_data.critique_runs import publish
from ixt_data.log import CriticInfo
from ixt_data.mds import TEXT_COLUMNS
from ixt_data.records import OK, Critique, Span, document_id
from ixt_data.store import Store, Transaction

CRITICS = ("quality", "style")
SHARD_DOCUMENTS = 20_000
_SOURCES = {"web": 40, "code": 12}
_COMPLAINTS = ("no source is named", "the end is cut", "boilerplate", "a step is missing", "vague")
_FLAGS = ("short", "boilerplate", "list")


def make_store(root: Path, documents: int) -> Store:
    """Create documents of about 500 characters: 70% in the corpus web, 30% in code."""
    store = Store.init(root)
    words = [f"{random.Random(i).getrandbits(40):x}"[: 2 + i % 9] for i in range(20_000)]
    for corpus, share in (("web", 0.7), ("code", 0.3)):
        _add_corpus(store, corpus, round(documents * share), words)
    for number, name in enumerate(CRITICS):
        critic = CriticInfo(f"{name}-1", name, {"kind": "bench", "name": name})
        for shard in store.snapshot().text_shards():
            texts = store.shard(shard).rows(["doc_id", "text"])
            critiques = [_critique(row["doc_id"], row["text"], number) for row in texts]
            publish(store, shard, critic, critiques)
    return store


def _add_corpus(store: Store, corpus: str, documents: int, words: list[str]) -> None:
    chooser = random.Random(corpus)
    with store.begin("ingest") as txn:
        family = txn.family("text", corpus, TEXT_COLUMNS)
        for first in range(0, documents, SHARD_DOCUMENTS):
            rows = list(_rows(chooser, corpus, range(first, documents)[:SHARD_DOCUMENTS], words))
            for row in rows:
                family.write(row)
            _add_rows(txn, corpus, rows, family.cut().path)
        txn.commit(documents=documents)


def _rows(
    chooser: random.Random, corpus: str, numbers: range, words: list[str]
) -> Iterator[dict[str, bytes | str]]:
    sources = [f"{corpus}-{k:02}.example" for k in range(_SOURCES[corpus])]
    for number in numbers:
        text = " ".join([f"{corpus} {number}", *chooser.choices(words, k=chooser.randint(20, 140))])
        yield {
            "doc_id": document_id(text),
            "source": chooser.choice(sources),
            "source_id": f"{corpus}/{number:08}",
            "text": text,
        }


def _add_rows(
    txn: Transaction, corpus: str, rows: list[dict[str, bytes | str]], shard: str
) -> None:
    n, ids = len(rows), pa.array([row["doc_id"] for row in rows], pa.binary(16))
    lengths = pa.array([len(row["text"]) for row in rows], pa.int64())
    columns = {
        "doc_id": pa.ExtensionArray.from_storage(pa.uuid(), ids),
        "corpus": [corpus] * n,
        "stage": ["pretrain"] * n,
        "source": [row["source"] for row in rows],
        "source_id": [row["source_id"] for row in rows],
        "n_bytes": lengths,
        "n_chars": lengths,
        "shard": [shard] * n,
        "row": pa.array(range(n), pa.int32()),
    }
    txn.add_rows("documents", corpus, pa.table(columns))


def _critique(doc_id: bytes, text: str, critic: int) -> Critique:
    """Return a critique with a score of 6 levels that depends on the length; 2% have failed."""
    rng = random.Random(doc_id + bytes([critic]))
    if rng.random() < 0.02:
        return Critique(doc_id, "timeout", error="no response within 120 s", attempts=3)
    score = min(5, max(0, round(rng.gauss(1.5 + len(text) / 400, 1)))) / 5
    complaint = rng.choice(_COMPLAINTS)
    critique = f"Overall {score:.1f}: the writing is plain and on one subject, but {complaint}."
    return Critique(
        doc_id,
        OK,
        critique=critique,
        score=score,
        scores={"writing": score * 5, "facts": rng.randint(0, 5)},
        spans=(Span(5, min(60, len(text)), "wrong", complaint, "See the critique."),),
        flags=(rng.choice(_FLAGS),) if score < 0.5 else (),
        thinking=f"The text has {len(text)} characters. {complaint}." if critic == 0 else None,
        n_thinking_tokens=rng.randint(20, 300) if critic == 0 else None,
        expected=min(1.0, max(0.0, score + rng.gauss(0, 0.05))),
        entropy=rng.random(),
    )
