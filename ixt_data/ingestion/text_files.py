"""Documents of files with one text each: single files, and folders of text or code."""

import os
from collections.abc import Iterator
from pathlib import Path

from ixt_data.ingestion.fields import TOO_LONG, RejectedRecord, excerpt
from ixt_data.records import Document, document_id
from ixt_data.storage import HEAD, MAX_TEXT

SKIPPED_FOLDERS = frozenset({"__pycache__"})
RECORD_FILES = tuple(
    kind + packed
    for kind in (".jsonl", ".ndjson", ".parquet")
    for packed in ("", ".gz", ".zst", ".zstd")
)


def printable(path: str | Path) -> str:
    """Return a path as valid Unicode; file names may contain any bytes."""
    return os.fsencode(path).decode(errors="replace")


class TextFileInput:
    """One text file: one document, with the file's name as source and id.

    Attributes:
        size: bytes of the file.
        consumed: bytes read so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.consumed = 0

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield the document, or the rejected record."""
        name = printable(self.path.name)
        yield read_text_file(self.path, self.size, source=name, source_id=name)
        self.consumed = self.size


class FolderInput:
    """A folder: one document per file, recursively, in the order of the names.

    The reader skips hidden files and folders and `__pycache__`. It does not follow symbolic links:
    it reads a target inside the folder at its own path, and rejects a link to the outside.

    Attributes:
        size: bytes of all files.
        consumed: bytes of the files read so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = printable(path.resolve().name or str(path))
        self.size = sum(file[1] for file in self._walk() if not isinstance(file, RejectedRecord))
        self.consumed = 0

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per file."""
        self.consumed = 0
        for file in self._walk():
            if isinstance(file, RejectedRecord):
                yield file
                continue
            path, size = file
            relative = printable(path.relative_to(self.path).as_posix())
            yield read_text_file(path, size, source=self.source, source_id=relative)
            self.consumed += size

    def _walk(self) -> Iterator[tuple[Path, int] | RejectedRecord]:
        """Yield path and bytes of each file, in order."""
        root = self.path.resolve()
        stack = _entries(self.path)
        while stack:
            entry = stack.pop()
            if isinstance(entry, RejectedRecord):
                yield entry
            elif entry.name.startswith("."):
                continue
            elif entry.is_symlink():
                yield from _link(Path(entry.path), root)
            elif entry.is_dir():
                if entry.name not in SKIPPED_FOLDERS:
                    stack += _entries(Path(entry.path))
            else:
                yield _file(entry)


def _entries(folder: Path) -> list["os.DirEntry[str] | RejectedRecord"]:
    """Return the content of a folder, last name first."""
    try:
        with os.scandir(folder) as content:
            entries = sorted(content, key=lambda entry: entry.name, reverse=True)
    except OSError as error:
        return [RejectedRecord(printable(folder), 0, f"cannot be read: {error.strerror}")]
    return list(entries)


def _file(entry: "os.DirEntry[str]") -> tuple[Path, int] | RejectedRecord:
    shown = printable(entry.path)
    if not entry.is_file():
        return RejectedRecord(shown, 0, "not a regular file")
    if entry.name.lower().endswith(RECORD_FILES):
        return RejectedRecord(
            shown, 0, "a file of records inside a folder: pass it as a separate input"
        )
    try:
        return Path(entry.path), entry.stat().st_size
    except OSError as error:
        return RejectedRecord(shown, 0, f"cannot be read: {error.strerror}")


def _link(path: Path, root: Path) -> Iterator[RejectedRecord]:
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(root):
        reason = "symbolic link that leaves the folder"
        yield RejectedRecord(printable(path), 0, reason, excerpt(printable(target)))


def read_text_file(
    path: Path, size: int, *, source: str, source_id: str
) -> Document | RejectedRecord:
    """Read a file as a document with its relative path as metadata `path`, or reject it."""
    file = printable(path)
    if size > MAX_TEXT:
        return RejectedRecord(file, 0, TOO_LONG)
    try:
        raw = path.read_bytes()
    except OSError as error:
        return RejectedRecord(file, 0, f"cannot be read: {error.strerror}")
    # UTF-16 text, or an archive, may be valid UTF-8, but text has no zero bytes.
    if b"\0" in raw:
        return RejectedRecord(file, 0, "not text: contains zero bytes", excerpt(raw[:HEAD]))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return RejectedRecord(file, line, "not UTF-8", excerpt(raw[:HEAD]))
    if not text or text.isspace():
        return RejectedRecord(file, 0, "empty text")
    return Document(document_id(text), text, source, source_id, {"path": source_id})
