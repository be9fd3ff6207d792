"""What an ingest changes or recognizes in the user's data, for its summary."""

from collections import Counter
from collections.abc import Mapping
from typing import Any


class Remarks:
    """Remarks, each with the number of values or records that it is about.

    Attributes:
        without_text: characters of text by field, of the records that have no text field.
        text_field: the field that these records lack.
    """

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self.without_text = Counter[str]()
        self.text_field = ""

    def add(self, remark: str, count: int = 1) -> None:
        """Add a remark, or its count to the same earlier one."""
        self._counts[remark] += count

    def update(self, other: "Remarks") -> None:
        """Add all remarks of another part of the input."""
        self._counts.update(other._counts)
        self.without_text.update(other.without_text)
        self.text_field = other.text_field or self.text_field

    def take(self) -> "Remarks":
        """Return the remarks, and start again without any."""
        taken = Remarks()
        taken.update(self)
        self._counts.clear()
        self.without_text.clear()
        return taken

    def as_json(self) -> dict[str, Any]:
        """Return the remarks as JSON values, for `parse`."""
        return {
            "counts": dict(self._counts),
            "without_text": dict(self.without_text),
            "text_field": self.text_field,
        }

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> "Remarks":
        """Return the remarks that `as_json` has returned."""
        remarks = cls()
        remarks._counts.update(record.get("counts", {}))
        remarks.without_text.update(record.get("without_text", {}))
        remarks.text_field = record.get("text_field", "")
        return remarks

    def lines(self) -> list[str]:
        """Return the remarks in the order of their first occurrence."""
        return [f"{text}: {n:,}" if n > 1 else text for text, n in self._counts.items()]
