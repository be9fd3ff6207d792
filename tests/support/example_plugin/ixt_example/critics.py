"""A critic that scores a document by its length."""

from typing import Any

from ixt_data.critics import EmbeddedCritic
from ixt_data.records import Critique, Document


class LengthCritic(EmbeddedCritic):
    """Scores a document by its length."""

    name = "length"

    def config(self) -> dict[str, Any]:
        """Return what identifies the critic."""
        return {"critic": self.name, "version": 1}

    def judge(self, document: Document) -> Critique:
        """Return the critique of one document."""
        score = min(len(document.text) / 1000, 1.0)
        return Critique(document.doc_id, critique=f"{len(document.text)} characters.", score=score)
