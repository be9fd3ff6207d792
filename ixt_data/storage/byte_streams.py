"""Decoded bytes of plain, gzip and zstd files, and their lines, in bounded memory."""

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard

from ixt_data.errors import IxtError

MAX_TEXT = 256 << 20
HEAD = 1024
CHUNK = 1 << 20
# A zstd block of 4 bytes decodes to at most 128 KiB: 8 KiB of input are at most 256 MiB at once.
ZSTD_SLICE = 8 << 10
ZSTD_WINDOW = 2**31


class TruncatedStream(Exception):
    """A file that ends too early or cannot be decoded further.

    Attributes:
        rest: the decoded part of the incomplete line.
    """

    rest: bytes = b""


class LongLine(bytes):
    """The first bytes of a line that is longer than the limit."""


class ByteStream:
    """The decoded bytes of one file, in chunks. It decompresses `.gz`, `.zst` and `.zstd`.

    Attributes:
        size: bytes of the file as stored, compressed.
        consumed: number of them that were read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.consumed = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield decoded chunks.

        Raises:
            TruncatedStream: the compressed data is corrupt or truncated. All chunks before were
                yielded.
            IxtError: the file cannot be read.
        """
        suffix = self.path.suffix.lower()
        if suffix == ".gz":
            return _gunzip(self._raw(CHUNK >> 4))
        if suffix in (".zst", ".zstd"):
            return _unzstd(self._raw(ZSTD_SLICE))
        return self._raw(CHUNK)

    def _raw(self, size: int) -> Iterator[bytes]:
        self.consumed = 0
        try:
            with self.path.open("rb") as file:
                while piece := file.read(size):
                    self.consumed += len(piece)
                    yield piece
        except OSError as error:
            raise IxtError(f"input {self.path} cannot be read: {error.strerror}") from None


def _gunzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    decoder = None
    for piece in pieces:
        while piece:
            if decoder is None:
                # Members may be padded with zeros.
                piece = piece.lstrip(b"\0")
                decoder = zlib.decompressobj(wbits=31) if piece else None
                continue
            try:
                yield decoder.decompress(piece, CHUNK)
            except zlib.error as error:
                raise TruncatedStream(f"corrupt gzip data: {error}") from None
            piece, ended = decoder.unused_data or decoder.unconsumed_tail, decoder.eof
            decoder = None if ended else decoder
    if decoder is not None:
        yield decoder.flush()
        if not decoder.eof:
            raise TruncatedStream("truncated gzip data")


def _unzstd(pieces: Iterable[bytes]) -> Iterator[bytes]:
    frames = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    decoder = None
    for piece in pieces:
        while piece:
            decoder = decoder or frames.decompressobj()
            try:
                yield decoder.decompress(piece)
            except zstandard.ZstdError as error:
                raise TruncatedStream(f"corrupt zstd data: {error}") from None
            piece, ended = decoder.unused_data, decoder.eof
            decoder = None if ended else decoder
    if decoder is not None:
        raise TruncatedStream("truncated zstd data")


def split_lines(chunks: Iterable[bytes], limit: int = MAX_TEXT) -> Iterator[bytes]:
    r"""Yield the lines of a stream without their `\n`; a line over `limit` bytes is a `LongLine`.

    Raises:
        TruncatedStream: the chunks raised it; `rest` is set.
    """
    parts: list[bytes] = []
    n_bytes = 0
    try:
        for chunk in chunks:
            *lines, tail = chunk.split(b"\n")
            if lines:
                yield _line(parts, lines[0], n_bytes, limit)
                parts, n_bytes = [], 0
                for line in lines[1:]:
                    yield line if len(line) <= limit else LongLine(line[:HEAD])
            parts.append(tail)
            n_bytes += len(tail)
            if n_bytes > limit:
                parts = [b"".join(parts)[:HEAD]]
    except TruncatedStream as broken:
        broken.rest = b"".join(parts)
        raise
    if n_bytes:
        yield _line(parts, b"", n_bytes, limit)


def _line(parts: list[bytes], last: bytes, n_bytes: int, limit: int) -> bytes:
    line = b"".join([*parts, last]) if n_bytes else last
    return line if n_bytes + len(last) <= limit else LongLine(line[:HEAD])
