"""One file to read: its names, its first bytes, and its decoded content."""

import codecs
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from ixt_data.errors import ConfigError, IxtError
from ixt_data.storage import COMPRESSIONS, ByteStream, RemoteFile, TruncatedStream, is_unicode

AnyFile = Path | RemoteFile

HEAD_BYTES = 64 << 10
BOMB = 1000
"""Ratio of decoded to stored bytes that only hostile files have: 20 is much for text."""

DECODED_BYTES = 1 << 30


def printable(path: "str | os.PathLike[str]") -> str:
    """Return a path as valid Unicode; file names may contain any bytes."""
    return os.fsencode(path).decode(errors="replace")


def suffix_of(name: str) -> str:
    """Return the lower-case suffix of a name, without that of a compression: `.jsonl`."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    while suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


class SourceFile:
    """One file to read, plain or compressed.

    Attributes:
        path: path of the file as stored.
        file: the path as messages show it.
        name: the name of the file, the default source of its documents.
        stream: its decoded bytes.
        size: bytes of the file as stored.
    """

    def __init__(
        self,
        path: AnyFile,
        name: str | None = None,
        folder: "tempfile.TemporaryDirectory[str] | None" = None,
    ) -> None:
        """Open the file to find its compression.

        Args:
            path: the file.
            name: a name to use instead of the file's own.
            folder: a folder for temporary files, which exists as long as this object.

        Raises:
            IxtError: the file cannot be read.
        """
        self.path = path
        self.file = printable(path) if name is None else name
        self.name = printable(path.name) if name is None else name
        self.stream = ByteStream(path)
        self.size = self.stream.size
        self._folder = folder

    def __getstate__(self) -> dict[str, Any]:
        # The process that made the temporary files deletes them.
        return {**self.__dict__, "_folder": None}

    @property
    def consumed(self) -> int:
        """Number of stored bytes that were read."""
        return self.stream.consumed

    @property
    def identity(self) -> list[Any]:
        """What the content depends on: path, size and time of change."""
        if isinstance(self.path, RemoteFile):
            return [*self.path.identity, self.name]
        path = self.path.absolute()
        return [printable(path), self.name, self.size, path.stat().st_mtime_ns]

    @property
    def suffix(self) -> str:
        """The lower-case suffix of the name, without that of a compression."""
        return suffix_of(self.name)

    @cached_property
    def head(self) -> bytes:
        """The first decoded bytes, at most 64 KiB; fewer if the file is corrupt."""
        head = b""
        try:
            for chunk in self.stream:
                head += chunk[:HEAD_BYTES]
                if len(head) >= HEAD_BYTES:
                    break
        except TruncatedStream:
            pass
        self.stream.consumed = 0
        return head[:HEAD_BYTES]

    def decoded_path(self) -> Path:
        """Return a file with the decoded bytes, for readers that need random access.

        It is the file itself, or a temporary copy that exists as long as this object.

        Raises:
            TruncatedStream: the compressed data is corrupt.
            IxtError: it decodes to more than 1 GiB and `BOMB` times its bytes.
        """
        if (
            isinstance(self.path, Path)
            and self.stream.compression is None
            and is_unicode(self.path)
        ):
            return self.path
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="ixt-decoded-")
        target = Path(self._folder.name, "content")
        if isinstance(self.path, Path) and self.stream.compression is None:
            # DuckDB and Arrow open no path that is not UTF-8.
            if not target.is_symlink():
                target.symlink_to(self.path.absolute())
        elif not target.exists():
            with target.open("wb") as file:
                self._decode(file)
        return target

    def _decode(self, file: BinaryIO) -> None:
        limit = max(DECODED_BYTES, BOMB * self.size)
        for chunk in self.stream:
            file.write(chunk)
            if file.tell() > limit:
                raise IxtError(
                    f"{self.file} has {self.size:,} bytes and decodes to more than {limit:,}. "
                    "If that is right, decompress it yourself"
                )


def check_encoding(source: SourceFile) -> None:
    """Check that the byte order mark of a file, if it has one, is that of UTF-8.

    Raises:
        ConfigError: the file is UTF-16 or UTF-32.
    """
    for name, marks in _OTHER_ENCODINGS.items():
        if source.head.startswith(marks):
            raise ConfigError(
                f"input {source.file} is {name}, not UTF-8. Convert it: "
                f"iconv -f {name} -t UTF-8 INPUT > OUTPUT"
            )


_OTHER_ENCODINGS = {
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


class SourceInput:
    """An input that reads the decoded bytes of one file in order.

    Attributes:
        size: bytes of the file as stored.
    """

    def __init__(self, source: SourceFile) -> None:
        self._source = source
        self.size = source.size

    @property
    def identity(self) -> list[Any]:
        """Everything that the records depend on."""
        return [type(self).__name__, *self._source.identity]

    @property
    def consumed(self) -> int:
        """Number of stored bytes that were read."""
        return self._source.consumed


def standard_input() -> SourceFile:
    """Copy standard input to a temporary file, because readers look at its first bytes.

    Raises:
        IxtError: standard input is a terminal.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise IxtError("input - is standard input, but nothing is piped into it")
    folder = tempfile.TemporaryDirectory(prefix="ixt-stdin-")
    path = Path(folder.name, "stdin")
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
    return SourceFile(path, "stdin", folder)


def expand(path: Path) -> Iterator[Path]:
    """Yield the paths that a pattern with `*`, `?` or `[` matches, sorted; else the path itself.

    A file of exactly that name wins over the pattern. Hidden files need a pattern with a dot.

    Raises:
        IxtError: nothing matches, or the path does not exist.
    """
    if path.exists() or path.is_symlink():
        yield path
        return
    text = str(path)
    if any(mark in text for mark in "*?["):
        # Unlike `Path.glob`, it leaves hidden files out.
        found = sorted(glob.glob(text, recursive=True))  # noqa: PTH207
        if not found:
            raise IxtError(f"input {printable(path)}: no file matches this pattern")
        yield from map(Path, found)
        return
    raise IxtError(f"input {printable(path)} does not exist")
