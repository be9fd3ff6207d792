"""A store of documents with critiques, built quickly, and the same documents as Parquet."""

import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ixt_data.critique_runs import publish
from ixt_data.log import CriticInfo
from ixt_data.mds import TEXT_COLUMNS
from ixt_data.records import Critique, document_id
from ixt_data.store import Store, Transaction

CRITIC = "bench"
_CRITIQUE = "The writing is clear and the steps are correct, but the end of part {} is cut."


def texts(n: int) -> Iterator[str]:
    """Return `n` documents of about 2 KB."""
    words = [f"{random.Random(i).getrandbits(40):x}"[: 2 + i % 9] for i in range(20_000)]
    chooser = random.Random(0)
    return (" ".join(chooser.choices(words, k=320)) for _ in range(n))


def critique_of(number: int) -> str:
    """Return the critique of a document."""
    return _CRITIQUE.format(number)


def make_store(root: Path, n: int, shard_bytes: int = 1 << 25) -> Store:
    """Create a store with `n` documents and a critique of each."""
    store = Store.init(root)
    with store.begin("ingest") as txn:
        family = txn.family("text", "web", TEXT_COLUMNS)
        ids: list[bytes] = []
        for text in texts(n):
            ids.append(document_id(text))
            family.write({"doc_id": ids[-1], "source": "s", "source_id": "", "text": text})
            if family.size >= shard_bytes:
                _rows(txn, ids, family.cut().path)
        if ids:
            _rows(txn, ids, family.cut().path)
        txn.commit()
    number = 0
    for shard in store.snapshot().text_shards():
        critiques = []
        for row in store.shard(shard).rows(["doc_id"]):
            score = number % 11 / 10
            critiques.append(Critique(row["doc_id"], critique=critique_of(number), score=score))
            number += 1
        publish(store, shard, CriticInfo(f"{CRITIC}-1", CRITIC, {}), critiques)
    return store


def _rows(txn: Transaction, ids: list[bytes], shard: str) -> None:
    n = len(ids)
    doc_ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array(ids, pa.binary(16)))
    columns = {
        "doc_id": doc_ids,
        "corpus": ["web"] * n,
        "stage": ["pretrain"] * n,
        "source": ["s"] * n,
        "source_id": [""] * n,
        "n_bytes": pa.array([2000] * n, pa.int64()),
        "n_chars": pa.array([2000] * n, pa.int64()),
        "shard": [shard] * n,
        "row": pa.array(range(n), pa.int32()),
    }
    txn.add_rows("documents", "web", pa.table(columns))
    ids.clear()


def write_parquet(path: Path, n: int) -> None:
    """Write the same documents with text and critique."""
    table = pa.table({"text": list(texts(n)), "critique": [critique_of(i) for i in range(n)]})
    pq.write_table(table, path, row_group_size=5000)
