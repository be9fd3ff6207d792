"""What the tests of exports share: a second critic, and the rows that an export must have."""

from typing import Any

from small_stores import Length

from ixt_data.records import Critique, Document
from ixt_data.store.store import Store


class Detailed(Length):
    """The next version of `Length`, with one sub-score more."""

    def judge(self, document: Document) -> Critique:
        made = super().judge(document)
        return Critique(
            made.doc_id, critique="detailed", score=made.score, scores={"length": 1, "style": 2}
        )


def expected_rows(store: Store, where: str = "true") -> dict[str, dict[str, Any]]:
    found = store.sql(
        "SELECT documents.*, critiques.* EXCLUDE (doc_id, shard, row) FROM documents LEFT JOIN "
        f"critiques USING (doc_id) WHERE {where}"
    ).arrow()
    return {f"{row['corpus']}/{row['doc_id']}": row for row in found.to_pylist()}
