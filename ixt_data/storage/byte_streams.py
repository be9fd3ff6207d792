"""Decoded bytes of plain and compressed files, and their lines, in bounded memory."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import zstandard

from ixt_data.errors import IxtError
from ixt_data.storage.remote_files import RemoteFile

MAX_TEXT = 256 << 20
HEAD = 1024
CHUNK = 1 << 20
# A zstd block of 4 bytes decodes to at most 128 KiB: 512 bytes of input are at most 16 MiB at once.
ZSTD_SLICE = 512
ZSTD_WINDOW = 2**31
XZ_MEMORY = 1 << 30
MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bzip2", ".xz": "xz"}
"""Compression by suffix of the file's name."""


class TruncatedStream(Exception):
    """A file that ends too early or cannot be decoded further.

    Attributes:
        rest: the decoded part of the incomplete line.
    """

    rest: bytes = b""


class LongLine(bytes):
    """The first bytes of a line that is longer than the limit."""


class ByteStream:
    """The decoded bytes of one file, in chunks. It decompresses gzip, zstd, bzip2 and xz.

    The first bytes tell the compression. If they are not known, the suffix of the name does.

    Attributes:
        size: bytes of the file as stored, compressed.
        compression: `gzip`, `zstd`, `bzip2`, `xz`, or None.
        consumed: number of the stored bytes that were read.
    """

    def __init__(self, path: Path | RemoteFile) -> None:
        """Find the compression.

        Raises:
            IxtError: the file cannot be read.
        """
        self.path = path
        self.size = path.stat().st_size
        self.compression = self._find_compression()
        self.consumed = 0

    def _find_compression(self) -> str | None:
        head = next(self._raw(HEAD), b"")
        known = (name for magic, name in MAGIC.items() if head.startswith(magic))
        return next(known, COMPRESSIONS.get(self.path.suffix.lower()))

    def __iter__(self) -> Iterator[bytes]:
        """Yield decoded chunks.

        Raises:
            TruncatedStream: the compressed data is corrupt or truncated. All chunks before were
                yielded.
            IxtError: the file cannot be read.
        """
        match self.compression:
            case "gzip":
                return _gunzip(self._raw(CHUNK >> 4))
            case "zstd":
                return _joined(_unzstd(self._raw(CHUNK >> 4)))
            case "bzip2":
                return _decompress("bzip2", bz2.BZ2Decompressor, self._raw(CHUNK >> 4))
            case "xz":
                return _decompress("xz", _xz_decoder, self._raw(CHUNK >> 4))
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
    slices = (
        piece[start : start + ZSTD_SLICE]
        for piece in pieces
        for start in range(0, len(piece), ZSTD_SLICE)
    )
    for piece in slices:
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


def _joined(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Join small chunks, which each need work, to chunks of about a quarter of `CHUNK`."""
    parts: list[bytes] = []
    size = 0
    try:
        for chunk in chunks:
            parts.append(chunk)
            size += len(chunk)
            if size >= CHUNK >> 2:
                yield b"".join(parts)
                parts, size = [], 0
    except TruncatedStream:
        yield b"".join(parts)
        raise
    yield b"".join(parts)


def _xz_decoder() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=XZ_MEMORY)


def _decompress(
    name: str,
    decoder_class: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor],
    pieces: Iterable[bytes],
) -> Iterator[bytes]:
    """Yield the decoded streams of a file, in chunks of `CHUNK` bytes or less."""
    decoder = None
    for piece in pieces:
        while piece or (decoder is not None and not decoder.needs_input):
            if decoder is None:
                # Streams may be padded with zeros.
                piece = piece.lstrip(b"\0")
                decoder = decoder_class() if piece else None
                continue
            try:
                yield decoder.decompress(piece, CHUNK)
            except (OSError, lzma.LZMAError, EOFError) as error:
                raise TruncatedStream(f"corrupt {name} data: {error}") from None
            piece = decoder.unused_data
            if decoder.eof:
                decoder = None
    if decoder is not None:
        raise TruncatedStream(f"truncated {name} data")


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
