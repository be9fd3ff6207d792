"""An enricher: the number of questions in a text."""

from collections.abc import Mapping
from typing import Any


class Questions:
    """Counts question marks."""

    columns: Mapping[str, str] = {"n_questions": "BIGINT"}

    def enrich(self, text: str) -> Mapping[str, Any]:
        """Return the number of question marks."""
        return {"n_questions": text.count("?")}
