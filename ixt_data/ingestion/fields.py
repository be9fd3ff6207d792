"""From a record of the input to a document, or to the reason why it is none."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from ixt_data.conversation import InvalidConversation, canonical_text
from ixt_data.errors import ConfigError
from ixt_data.records import Document, as_text, document_id
from ixt_data.storage import MAX_TEXT

EXCERPT = 200
TEXT, MESSAGES = "text", "messages"
"""Where the text is by default, and, in a record without it, the messages of a conversation."""

TOO_LONG = f"longer than {MAX_TEXT >> 20} MiB"
_JSON_KINDS = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


class RejectedRecord(NamedTuple):
    """A record that is no document.

    Attributes:
        file: the input file.
        line: line or row, counted from 1; 0 where the whole file is meant.
        reason: why, in a few words.
        excerpt: its first 200 characters.
    """

    file: str
    line: int
    reason: str
    excerpt: str = ""


def excerpt(raw: bytes | str) -> str:
    """The first 200 characters; bytes that are not UTF-8 are replaced."""
    if isinstance(raw, bytes):
        raw = raw[: 4 * EXCERPT].decode(errors="replace")
    return raw[:EXCERPT]


def kind_of(value: Any) -> str:
    """What JSON calls the type of `value`."""
    return _JSON_KINDS.get(type(value), type(value).__name__)


@dataclass(frozen=True, slots=True)
class Fields:
    """Which fields of a record are the text and the id; all others are metadata.

    Attributes:
        text: the field of the text, or of the messages of a conversation.
        id: the field of the user's own id; None takes `id` where there is one.
    """

    text: str = TEXT
    id: str | None = None

    def __post_init__(self) -> None:
        if self.text == self.id:
            raise ConfigError(f"text field and id field are both {self.text!r}; name two fields")

    def document(self, record: dict[str, Any], file: str, place: int) -> Document | str:
        """The document in `record`, which is emptied; or the reason why there is none.

        Args:
            record: the fields by name.
            file: name of the input file, the source where the record names none.
            place: line or row, the id where the record has none.
        """
        text = record.pop(self.text, record)
        if type(text) is not str:
            messages = self._messages(text, record)
            if messages is None:
                return self._why_not(text, record)
            try:
                text = canonical_text(messages)
            except InvalidConversation as bad:
                return str(bad)
        if not text or text.isspace():
            return "empty text"
        if len(text) > MAX_TEXT:
            return TOO_LONG
        source_id = record.pop(self.id or "id", None)
        source = record.pop("source", None)
        if type(source) is not str or not source:
            if source not in (None, ""):
                record["source"] = source
            source = file
        if type(source_id) is not str:
            source_id = f"{file}:{place}" if source_id is None else as_text(source_id)
        return Document(document_id(text), text, source, source_id, record)

    def _messages(self, text: Any, record: dict[str, Any]) -> Any:
        """The messages of a record that has no text, None where it has neither."""
        if self.text == TEXT:
            return record.pop(MESSAGES, None) if text is record or text is None else None
        return text if type(text) is list else None

    def _why_not(self, text: Any, record: dict[str, Any]) -> str:
        if text is not record:
            return f"field {self.text!r} is not a string but {kind_of(text)}"
        names = ", ".join(sorted(record)[:10])
        return f"no field {self.text!r} (fields: {names})" if names else f"no field {self.text!r}"
