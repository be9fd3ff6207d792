"""Conversion of input records to documents, or to a reason for rejection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ixt_data.conversation import InvalidConversation, canonical_text, openai_messages
from ixt_data.errors import ConfigError
from ixt_data.ingestion.remarks import Remarks
from ixt_data.records import Document, as_text, document_id
from ixt_data.storage import MAX_TEXT

EXCERPT = 200
TEXT = "text"
"""Default field of the text."""
CONVERSATIONS = {"messages": "OpenAI", "conversations": "ShareGPT"}
"""Fields of a conversation in a record without text, each with the name of its layout."""

_JSON_KINDS = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def too_long(limit: int) -> str:
    """Return the reason for the rejection of a document of more than `limit` bytes."""
    return f"longer than {limit / (1 << 20):g} MiB (--max-document-mb)"


class RejectedRecord(NamedTuple):
    """A record that is not a document.

    Attributes:
        file: name of the input file.
        line: line or row, from 1; 0 for the complete file.
        reason: reason for the rejection.
        excerpt: the first 200 characters.
    """

    file: str
    line: int
    reason: str
    excerpt: str = ""


def excerpt(raw: bytes | str) -> str:
    """Return the first 200 characters; replace bytes that are not UTF-8."""
    if isinstance(raw, bytes):
        raw = raw[: 4 * EXCERPT].decode(errors="replace")
    return raw[:EXCERPT]


def kind_of(value: Any) -> str:
    """Return the JSON name of the type of `value`."""
    return _JSON_KINDS.get(type(value), type(value).__name__)


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of the text and the id in a record; all other fields are metadata.

    Attributes:
        text: field of the text, or of the messages of a conversation.
        id: field of the user's own id, which every record must have; None: the field `id`, if a
            record has it.
        source: field of the document's source; None: the field `source`, if a record has it.
        records: keys, joined by dots, of the array of records in a JSON object.
        delimiter: the character between the columns of a CSV file; None: found in its first line.
        max_bytes: most bytes of a record as stored, and of a text.
        split: split of a dataset that the file belongs to, a column of its records.
        remarks: collects what the summary says about the records.
    """

    text: str = TEXT
    id: str | None = None
    source: str | None = None
    records: str | None = None
    delimiter: str | None = None
    max_bytes: int = field(default=MAX_TEXT, compare=False)
    split: str | None = None
    remarks: Remarks = field(default_factory=Remarks, compare=False)

    def __post_init__(self) -> None:
        named = [name for name in (self.text, self.id, self.source) if name is not None]
        for name in named:
            if named.count(name) > 1:
                raise ConfigError(
                    f"of --text-field, --id-field and --source-field two are {name!r}; "
                    "name different fields"
                )

    @property
    def identity(self) -> list[str | int | None]:
        """Everything that the documents depend on."""
        named = [self.text, self.id, self.source, self.records, self.delimiter, self.split]
        return [*named, self.max_bytes]

    def check_columns(self, file: str, columns: Sequence[str]) -> None:
        """Check that a table has the columns that these fields name.

        Raises:
            ConfigError: it lacks one.
        """
        options = {"--text-field": self.text, "--id-field": self.id, "--source-field": self.source}
        for option, name in options.items():
            if name is not None and columns.count(name) > 1:
                raise ConfigError(f"{file} has several columns {name!r}; rename all but one")
            # A table without texts may contain conversations.
            if name is None or name in columns or (name == TEXT and {*CONVERSATIONS} & {*columns}):
                continue
            known = ", ".join(columns)
            raise ConfigError(f"{file} has no column {name!r}. {option} can be: {known}")

    def has_text(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record has a field for the text or the conversation."""
        return self.text in record or (self.text == TEXT and bool({*CONVERSATIONS} & {*record}))

    def is_metadata(self, name: str) -> bool:
        """Return whether a field is neither text, messages, id nor source."""
        own = (self.text, self.id or "id", self.source or "source")
        return name not in own and (self.text != TEXT or name not in CONVERSATIONS)

    def document(self, record: dict[str, Any], file: str, number: int) -> Document | str:
        """Convert a record to a document, or return the reason why it is not one.

        Args:
            record: the fields by name; this method removes fields from it.
            file: name of the input file, the source of records without a field `source`.
            number: line or row, part of the id of records without one.
        """
        if self.split is not None:
            record.setdefault("split", self.split)
        for named in (self.id, self.source):
            if named is not None and named not in record:
                return _missing_field(named, record)
        text = record.pop(self.text, record)
        if type(text) is not str:
            messages = self._messages(text, record)
            if messages is None:
                return self._rejection_reason(text, record)
            try:
                text = canonical_text(messages)
            except InvalidConversation as error:
                return str(error)
        if not text or text.isspace():
            return "empty text"
        if len(text) > self.max_bytes:
            return too_long(self.max_bytes)
        source_id = record.pop(self.id or "id", None)
        if type(source_id) is bytes and not _is_utf8(source_id):
            return f"field {self.id or 'id'!r} is not UTF-8"
        name = self.source or "source"
        source = record.pop(name, None)
        if type(source) is not str or not source:
            if source not in (None, ""):
                record[name] = source
            source = file
        if type(source_id) is not str:
            source_id = None if source_id is None else as_text(source_id)
        source_id = source_id or f"{file}:{number}"
        return Document(document_id(text), text, source, source_id, record)

    def _messages(self, text: Any, record: dict[str, Any]) -> Any:
        """Return the messages of a record without text, or None."""
        if self.text != TEXT:
            return openai_messages(text) if type(text) is list else None
        if text is not record and text is not None:
            return None
        for name, layout in CONVERSATIONS.items():
            if type(record.get(name)) is list:
                self.remarks.add(f"conversations of the field {name!r} ({layout})")
                return openai_messages(record.pop(name))
        return record.pop("messages", None)

    def _rejection_reason(self, text: Any, record: dict[str, Any]) -> str:
        if text is not record:
            return f"field {self.text!r} is not a string but {kind_of(text)}"
        self.remarks.text_field = self.text
        for name, value in record.items():
            if isinstance(value, str):
                self.remarks.without_text[name] += len(value)
        return _missing_field(self.text, record)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _missing_field(field: str, record: dict[str, Any]) -> str:
    names = ", ".join(sorted(record)[:10])
    return f"no field {field!r} (fields: {names})" if names else f"no field {field!r}"
