"""Small real stores for the tests of the data engine."""

import sys
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ixt_data.critics.base import EmbeddedCritic
from ixt_data.mds.shards import TEXT_COLUMNS
from ixt_data.records import Critique, Document, Span, document_id
from ixt_data.store.store import Store


class Length(EmbeddedCritic):
    """A critic that scores a document by its length."""

    def __init__(self, version: int = 1, name: str = "length") -> None:
        self.name, self.version = name, version

    def config(self) -> dict[str, Any]:
        return {"kind": "length", "version": self.version}

    def judge(self, document: Document) -> Critique:
        if document.text == "raise":
            raise ValueError("too hard")
        if document.text == "exit":
            sys.exit(3)
        n = len(document.text)
        return Critique(
            document.doc_id,
            critique=f"{n} characters",
            score=min(1.0, self.version * n / 10),
            scores={"length": n},
            spans=(Span(0, n, "right"),),
            flags=("short",) if n < 3 else (),
            thinking="hm" if n > 4 else None,
        )


def add_documents(
    store: Store, texts: Sequence[str], corpus: str = "web", per_shard: int = 10, **metadata: list
) -> int:
    """Commit texts to a corpus, some per shard; return the version."""
    with store.begin("ingest") as txn:
        family = txn.family("text", corpus, TEXT_COLUMNS)
        for start in range(0, len(texts), per_shard):
            part = texts[start : start + per_shard]
            for i, text in enumerate(part, start):
                record = {"doc_id": document_id(text), "source": "test", "source_id": str(i)}
                family.write({**record, "text": text})
            shard = family.cut()
            columns = {key: values[start : start + per_shard] for key, values in metadata.items()}
            txn.add_rows("documents", corpus, documents_table(part, corpus, shard.path, columns))
        return txn.commit(documents=len(texts))


def add_commits(store: Store, n: int) -> None:
    """Commit n times three texts to the corpus `web`."""
    for i in range(n):
        add_documents(store, [f"{i}-{j}" for j in range(3)])


def documents_table(
    texts: Sequence[str], corpus: str, shard: str, metadata: dict[str, list]
) -> pa.Table:
    n = len(texts)
    ids = pa.array([document_id(text) for text in texts], pa.binary(16))
    return pa.table(
        {
            "doc_id": pa.ExtensionArray.from_storage(pa.uuid(), ids),
            "corpus": [corpus] * n,
            "stage": ["pretrain"] * n,
            "source": ["test"] * n,
            "source_id": [str(i) for i in range(n)],
            "n_bytes": pa.array([len(text.encode()) for text in texts], pa.int64()),
            "n_chars": pa.array([len(text) for text in texts], pa.int64()),
            "shard": [shard] * n,
            "row": pa.array(range(n), pa.int32()),
            **metadata,
        }
    )
