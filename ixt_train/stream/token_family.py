"""Token families: documents and critiques tokenized once, next to the shards they come from.

The tokens of a shard are an aligned shard of the family `tokens/<encoder id>`. Each one is a unit
of work and one commit. An interrupted job resumes where it stopped, and running it again adds new
documents and critiques.
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ixt_data.errors import StoreError, UnitAlreadyPublished
from ixt_data.log import TEXT, ShardInfo, Snapshot, family_unit
from ixt_data.mds import CRITIQUE_TOKENS_COLUMNS, TOKENS_COLUMNS
from ixt_data.records import OK
from ixt_data.store import Store
from ixt_train.conditioning import Encoder

_BATCH = 256


@dataclass
class TokenizeReport:
    """The result of `tokenize`.

    Attributes:
        family: name of the token family.
        shards: text and critique shards tokenized now.
        skipped: shards that were tokenized before.
        documents: documents in the text shards tokenized now.
        tokens: tokens of documents and critiques together.
        snapshot: version of the snapshot afterwards.
    """

    family: str
    shards: int = 0
    skipped: int = 0
    documents: int = 0
    tokens: int = 0
    snapshot: int = 0

    def record(self) -> dict[str, Any]:
        """Return the report as the JSON object that the command line prints."""
        return asdict(self)


def sources(
    snapshot: Snapshot, corpora: Collection[str] | None, critics: Collection[str] | None
) -> list[ShardInfo]:
    """Return the text shards of some corpora, and their latest critique shards by some critics.

    Raises:
        StoreError: the snapshot has no such corpus or critic.
    """
    names = {critic.name for critic in snapshot.critics.values()}
    for what, requested, known in (
        ("corpus", corpora, set(snapshot.corpora)),
        ("critic", critics, names),
    ):
        for name in sorted(set(requested or ()) - known):
            listed = ", ".join(sorted(known)) or "none"
            raise StoreError(f"no {what} {name!r} in snapshot {snapshot.version}; known: {listed}")
    text_shards = snapshot.text_shards(corpora)
    critique_shards = [
        snapshot.newest_critique(shard.path, name)
        for name in sorted(names if critics is None else set(critics))
        for shard in text_shards
    ]
    return text_shards + [shard for shard in critique_shards if shard is not None]


def tokenize(
    store: Store,
    tokenizer: Any,
    corpora: Collection[str] | None = None,
    critics: Collection[str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TokenizeReport:
    """Write the tokens of documents and critiques that this tokenizer has not tokenized yet.

    Args:
        store: the store.
        tokenizer: a fast Hugging Face tokenizer, with the special tokens that training adds.
        corpora: corpora to tokenize; None tokenizes all.
        critics: critics whose critiques to tokenize; None tokenizes all.
        progress: called after each shard with the number of shards done and the total.

    Raises:
        StoreError: the store has no such corpus or critic.
        ConfigError: the tokenizer is not a fast one.
    """
    encoder = Encoder(tokenizer)
    snapshot = store.snapshot()
    shards = sources(snapshot, corpora, critics)
    report = TokenizeReport(encoder.family)
    for done, shard in enumerate(shards):
        progress(done, len(shards))
        if family_unit(encoder.family, shard.path) in snapshot.units:
            report.skipped += 1
            continue
        try:
            report.tokens += _publish(store, shard, encoder)
        except UnitAlreadyPublished:
            report.skipped += 1
            continue
        report.shards += 1
        report.documents += shard.samples if shard.family == TEXT else 0
    progress(len(shards), len(shards))
    report.snapshot = store.snapshot().version
    return report


def _publish(store: Store, shard: ShardInfo, encoder: Encoder) -> int:
    """Commit the tokens of one shard; return their number.

    Raises:
        AlreadyDone: another process did it first.
    """
    is_text = shard.family == TEXT
    number = int((re.findall(r"\d+", PurePosixPath(shard.path).name) or ["0"])[0][:9])
    columns = TOKENS_COLUMNS if is_text else CRITIQUE_TOKENS_COLUMNS
    tokens = 0
    with store.begin("tokenize", unit=family_unit(encoder.family, shard.path)) as txn:
        if txn.unit in txn.base.units:
            raise UnitAlreadyPublished(f"{txn.unit} is published")
        family = txn.family(encoder.family, shard.corpus, columns, first=number)
        for sample in (_documents if is_text else _critiques)(store, shard, encoder):
            tokens += len(sample["tokens"]) // np.dtype(encoder.dtype).itemsize
            family.write(sample)
        family.cut(aligned_with=shard.path)
        txn.commit(samples=shard.samples, tokens=tokens)
    return tokens


def _documents(store: Store, shard: ShardInfo, encoder: Encoder) -> Iterator[dict[str, Any]]:
    data = store.shard(shard)
    ids, texts = data.column("doc_id"), data.column("text")
    starts = range(0, len(texts), _BATCH)
    encoded = chain.from_iterable(encoder.documents(texts[i : i + _BATCH]) for i in starts)
    for doc_id, tokens in zip(ids, encoded, strict=True):
        yield {"doc_id": doc_id, "tokens": tokens.astype(encoder.dtype).tobytes()}


def _critiques(store: Store, shard: ShardInfo, encoder: Encoder) -> Iterator[dict[str, Any]]:
    for row in store.shard(shard).rows(("doc_id", "status", "score", "critique")):
        critique = row.pop("critique")
        tokens = (
            encoder.words(critique) if critique and row["status"] == OK else np.empty(0, np.int32)
        )
        yield {**row, "tokens": tokens.astype(encoder.dtype).tobytes()}
