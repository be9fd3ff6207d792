"""A store with near-duplicates and critiques."""

import json
from pathlib import Path

import pytest
from curated_store import changed, text

from ixt_data.ingestion import ingest
from ixt_data.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """20 documents; of 0 to 3 there is a near copy with more words, and one of 0 in books."""
    store = Store.init(tmp_path / "S")
    originals = [text(i) for i in range(20)]
    copies = [[*changed(originals[i], range(50, 54)), "more", "words"] for i in range(4)]
    half = originals[7][:100] + text(77, 100)
    for corpus, documents in (
        ("web", [*originals, *copies, half]),
        ("books", [originals[5], changed(originals[0], range(10, 12))]),
    ):
        path = tmp_path / f"{corpus}.jsonl"
        lines = [
            json.dumps({"text": " ".join(d), "id": f"{corpus}{i}"}) for i, d in enumerate(documents)
        ]
        path.write_text("\n".join(lines))
        ingest(store, corpus, [path], shard_bytes=9000)
    return store
