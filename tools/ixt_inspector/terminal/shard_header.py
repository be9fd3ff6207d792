"""The head of an MDS shard, read from the front of its file, whatever it is packed with.

What is read may be anybody's: sizes that it says are bounded before memory is taken, nothing of it
is executed, and what does not fit is an error that names the file.
"""

import bz2
import gzip
import importlib
import io
import json
import struct
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, BinaryIO

import zstandard

from ixt_data.errors import CorruptError, StoreError
from ixt_data.mds import REFUSED, SCALARS, decoder

SUFFIXES = {
    **{".zstd": "zstd", ".zst": "zstd", ".gz": "gz", ".bz2": "bz2"},
    **{".br": "br", ".snappy": "snappy"},
}
MAGIC = {b"\x28\xb5\x2f\xfd": "zstd", b"\x1f\x8b": "gz", b"BZh": "bz2"}
MOST_SAMPLES = 1 << 26
MOST_CONFIG = 1 << 24
MOST_SAMPLE = 1 << 26
"""Bytes of a sample that is shown; a longer one is only told."""
_CHUNK = 1 << 16


@dataclass(frozen=True)
class ShardHeader:
    """What the front of a shard says.

    Attributes:
        compression: codec of the file, None if it is not packed.
        samples: how many.
        columns: MDS encoding by column.
        sizes: bytes of a value by column, None where it varies.
        offsets: where each sample begins, and the end of the last one: the size unpacked.
        bytes_read: uncompressed bytes that had to be read for this.
    """

    compression: str | None
    samples: int
    columns: dict[str, str]
    sizes: dict[str, int | None]
    offsets: tuple[int, ...]
    bytes_read: int

    @property
    def raw_bytes(self) -> int:
        """Size of the whole shard, uncompressed."""
        return self.offsets[-1]


def codec_of(name: str, front: bytes) -> str | None:
    """What a file is packed with: by its first bytes, else by its name.

    Raises:
        CorruptError: the two contradict each other.
    """
    by_name = next((kind for suffix, kind in SUFFIXES.items() if name.endswith(suffix)), None)
    by_magic = next((kind for magic, kind in MAGIC.items() if front.startswith(magic)), None)
    if by_name in MAGIC.values() and by_magic != by_name:
        found = f"looks like {by_magic}" if by_magic else f"is no {by_name}"
        raise CorruptError(f"{name}: named as {by_name}, but its content {found}")
    return by_name or by_magic


class BoundedReader:
    """A shard's file, unpacked from its front as far as it is asked for."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Reads a file; `name` is for errors and tells the codec."""
        front = _exactly(file, 4)
        self.name, self.compression = name, codec_of(name, front)
        joined: Any = _PrefixedFile(front, file)
        self._file = _unpacked(joined, self.compression, name)
        self.at = 0

    def read(self, size: int) -> bytes:
        """Exactly so many unpacked bytes.

        Raises:
            CorruptError: there are fewer, or they cannot be unpacked.
        """
        try:
            data = _exactly(self._file, size)
        except (OSError, EOFError, ValueError, zstandard.ZstdError) as error:
            raise CorruptError(
                f"{self.name}: cannot be unpacked as {self.compression} ({error})"
            ) from None
        self.at += len(data)
        if len(data) < size:
            raise CorruptError(f"{self.name}: ends after {self.at:,} bytes; it says there are more")
        return data

    def skip(self, size: int) -> None:
        """Reads so many bytes and drops them."""
        while size > 0:
            size -= len(self.read(min(size, 1 << 20)))

    def ended(self) -> bool:
        """Whether nothing follows."""
        return not self._file.read(1)


def read_head(front: BoundedReader) -> ShardHeader:
    """Parses the head.

    Raises:
        CorruptError: these are not the first bytes of an MDS shard.
    """
    name = front.name
    (n,) = struct.unpack("<I", front.read(4))
    if not n or n > MOST_SAMPLES:
        raise CorruptError(f"{name}: not an MDS shard: it says that it has {n:,} samples")
    offsets = struct.unpack(f"<{n + 1}I", front.read(4 * (n + 1)))
    begins = 4 + 4 * (n + 1)
    if not begins < offsets[0] <= begins + MOST_CONFIG or any(a > b for a, b in pairwise(offsets)):
        raise CorruptError(f"{name}: not an MDS shard: its offsets do not ascend from its head")
    try:
        config = json.loads(front.read(offsets[0] - begins))
        names, encodings = config["column_names"], config["column_encodings"]
        sizes = config["column_sizes"]
        columns = dict(zip(map(str, names), map(str, encodings), strict=True))
        by_name = dict(zip(columns, map(_size, sizes), strict=True))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptError(f"{name}: not an MDS shard: its head is unreadable ({error})") from None
    return ShardHeader(front.compression, n, columns, by_name, offsets, front.at)


def _size(value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or value < 0):
        raise ValueError(f"a column of {value!r} bytes")
    return value


def read_sample(head: ShardHeader, data: bytes, name: str) -> dict[str, Any]:
    """The values of one sample; those of no scalar encoding are told by their size and beginning.

    Raises:
        CorruptError: its columns do not fill it.
    """
    variable = [column for column, size in head.sizes.items() if size is None]
    if len(data) < 4 * len(variable):
        raise CorruptError(f"{name}: a sample of {len(data)} bytes is too short for its columns")
    lengths = dict(zip(variable, struct.unpack_from(f"<{len(variable)}I", data), strict=True))
    fixed = {column: size for column, size in head.sizes.items() if size is not None}
    sizes = [(lengths | fixed)[column] for column in head.columns]
    ends = list(accumulate(sizes, initial=4 * len(variable)))
    if ends[-1] != len(data):
        raise CorruptError(f"{name}: the columns do not fill a sample of {len(data)} bytes")
    return {
        column: value_of(encoding, data[begin:end])
        for (column, encoding), (begin, end) in zip(
            head.columns.items(), pairwise(ends), strict=True
        )
    }


def value_of(encoding: str, data: bytes) -> Any:
    """A value as it can be shown; a pickle, which is a program, is never run."""
    kind = encoding.partition(":")[0]
    if kind in REFUSED:
        return f"<pickle of {len(data):,} bytes, not decoded: it would run code>"
    if kind not in SCALARS:
        more = "…" if len(data) > 16 else ""
        return f"<{encoding}, {len(data):,} bytes: {data[:16].hex()}{more}>"
    try:
        return _told(decoder(kind)(data))
    except (ValueError, struct.error, RecursionError) as error:
        return f"<{encoding}, {len(data):,} bytes that are none: {error}>"


def _told(value: Any) -> Any:
    """A value without what no JSON can say: integers over 64 bits, halves of characters."""
    if isinstance(value, dict):
        return {_told(str(key)): _told(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_told(one) for one in value]
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return str(value)
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _exactly(file: Any, size: int) -> bytes:
    parts, left = [], size
    while left and (part := file.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


class _PrefixedFile(io.RawIOBase):
    """A file whose first bytes were read already."""

    def __init__(self, front: bytes, rest: BinaryIO) -> None:
        self._front, self._rest = front, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._front[: len(buffer)] or self._rest.read(len(buffer))
        self._front = self._front[len(data) :]
        buffer[: len(data)] = data
        return len(data)


class _Brotli(io.RawIOBase):
    """What brotli makes of a file, piece by piece: a few bytes of it may become very many."""

    def __init__(self, file: Any, codec: Any) -> None:
        self._file, self._codec, self._ready = file, codec, b""
        self._unpack = codec.Decompressor()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = b""
            if self._unpack.can_accept_more_data():
                packed = self._file.read(_CHUNK)
                if not packed:
                    return 0
            try:
                self._ready = self._unpack.process(packed, output_buffer_limit=1 << 20)
            except self._codec.error as error:
                raise ValueError(error) from None
        data, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


def _unpacked(file: Any, kind: str | None, name: str) -> Any:
    buffered = io.BufferedReader(file, _CHUNK)
    if kind is None:
        return buffered
    if kind == "zstd":
        return zstandard.ZstdDecompressor().stream_reader(buffered, read_size=_CHUNK)
    if kind == "gz":
        return gzip.GzipFile(fileobj=buffered)
    if kind == "bz2":
        return bz2.BZ2File(buffered)
    package = {"br": "brotli", "snappy": "snappy"}[kind]
    try:
        codec = importlib.import_module(package)
    except ImportError:
        raise StoreError(f"{name}: packed with {kind}; the package {package} is missing") from None
    if kind == "snappy":
        # Its blocks have no inner ends: the whole is unpacked at once.
        return io.BytesIO(codec.decompress(buffered.read()))
    return io.BufferedReader(_Brotli(buffered, codec), _CHUNK)
