"""Small real stores with critiques, for the tests of the stream."""

from pathlib import Path

import pyarrow as pa

from ixt_data.critics.base import EmbeddedCritic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.mds.shards import TEXT_COLUMNS
from ixt_data.records import Critique, Document, Span, document_id
from ixt_data.store.store import Store
from ixt_train.conditioning.conditioner import SPECIAL_TOKENS
from ixt_train.conditioning.tokenizer import train_tokenizer
from ixt_train.config.model_config import TokenizerTraining


class Numbers(EmbeddedCritic):
    """Judges `doc 17 ...` by its number: score 0 to 1 in steps of 0.1, and a span on the number."""

    name = "numbers"

    def config(self):
        return {}

    def judge(self, document: Document) -> Critique:
        n = int(document.text.split()[1])
        if n % 50 == 49:
            return Critique(document.doc_id, status="failed", error="no answer")
        verdict, tag = ("right", "") if n % 2 else ("wrong", "even number")
        end = 4 + len(str(n))
        return Critique(
            document.doc_id,
            critique=f"note {n % 3}",
            score=n % 11 / 10,
            spans=(Span(4, end, verdict, tag),),
        )


def texts(n: int, start: int = 0) -> list[str]:
    return [f"doc {i} text" for i in range(start, start + n)]


def add_documents(store: Store, documents: list[str], corpus: str = "web", per_shard: int = 25):
    with store.begin("ingest") as txn:
        family = txn.family("text", corpus, TEXT_COLUMNS)
        for start in range(0, len(documents), per_shard):
            part = documents[start : start + per_shard]
            for text in part:
                ids = {"doc_id": document_id(text), "source": "test", "source_id": ""}
                family.write({**ids, "text": text})
            shard = family.cut()
            txn.add_rows("documents", corpus, _rows(part, corpus, shard.path))
        return txn.commit()


def _rows(part: list[str], corpus: str, shard: str) -> pa.Table:
    n = len(part)
    ids = pa.array([document_id(text) for text in part], pa.binary(16))
    return pa.table(
        {
            "doc_id": pa.ExtensionArray.from_storage(pa.uuid(), ids),
            "corpus": [corpus] * n,
            "stage": ["pretrain"] * n,
            "source": ["test"] * n,
            "source_id": [""] * n,
            "n_bytes": pa.array([len(text.encode()) for text in part], pa.int64()),
            "n_chars": pa.array([len(text) for text in part], pa.int64()),
            "shard": [shard] * n,
            "row": pa.array(range(n), pa.int32()),
        }
    )


def critiqued_store(root: Path, n: int = 400, per_shard: int = 25) -> Store:
    store = Store.init(root)
    add_documents(store, texts(n), per_shard=per_shard)
    annotate(store, "web", Numbers())
    return store


def words_tokenizer(n: int = 500):
    training = TokenizerTraining(kind="words", vocab_size=5000)
    lines = [*texts(n), "note 0 1 2", "even number"]
    return train_tokenizer(lines, training, SPECIAL_TOKENS)
