from pathlib import Path

import pytest
from exported_stores import Detailed
from small_stores import Length, add_documents
from streaming import MDSWriter

from ixt_data.critique_runs.annotation import annotate
from ixt_data.ingestion.adoption import adopt
from ixt_data.store.store import Store


@pytest.fixture
def full(store: Store, tmp_path: Path) -> Store:
    """Ingested and adopted documents, some columns late, some critiqued twice, some never."""
    add_documents(store, [f"text {i}" for i in range(25)])
    annotate(store, "web", Length())
    add_documents(store, ["a", "raise"], likes=[1, 2], lang=["en", None])
    annotate(store, "web", Length())
    with MDSWriter(out=str(tmp_path / "mds"), columns={"text": "str"}, size_limit=300) as writer:
        for i in (*range(20), 3, 4):
            writer.write({"text": f"adopted {i}"})
    adopt(store, "old", tmp_path / "mds")
    annotate(store, "old", Length())
    annotate(store, "web", Detailed(2))
    add_documents(store, ["never read"], "new")
    return store
