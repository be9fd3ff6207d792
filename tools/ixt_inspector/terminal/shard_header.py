"""The header of an MDS shard, read from the start of its file with any compression.

The content is untrusted: claimed sizes are bounded before memory is allocated, no content is
executed, and an error names the file.
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
MAX_SAMPLES = 1 << 26
MAX_CONFIG_BYTES = 1 << 24
MAX_SAMPLE_BYTES = 1 << 26
"""Maximum bytes of a sample that is shown; of a longer sample only the size is shown."""
_CHUNK = 1 << 16


@dataclass(frozen=True)
class ShardHeader:
    """The header of a shard.

    Attributes:
        compression: codec of the file; None if it is not compressed.
        samples: number of samples.
        columns: MDS encoding by column.
        sizes: bytes of a value by column; None where it varies.
        offsets: start of each sample, and the end of the last: the uncompressed size.
        bytes_read: uncompressed bytes that were read.
    """

    compression: str | None
    samples: int
    columns: dict[str, str]
    sizes: dict[str, int | None]
    offsets: tuple[int, ...]
    bytes_read: int

    @property
    def raw_bytes(self) -> int:
        """Return the uncompressed size of the shard."""
        return self.offsets[-1]


def codec_of(name: str, reader: bytes) -> str | None:
    """Return the codec of a file, by its first bytes or its name.

    Raises:
        CorruptError: the first bytes contradict the name.
    """
    by_name = next((kind for suffix, kind in SUFFIXES.items() if name.endswith(suffix)), None)
    by_magic = next((kind for magic, kind in MAGIC.items() if reader.startswith(magic)), None)
    if by_name in MAGIC.values() and by_magic != by_name:
        content = f"looks like {by_magic}" if by_magic else f"is not {by_name}"
        raise CorruptError(f"{name}: named as {by_name}, but its content {content}")
    return by_name or by_magic


class ShardReader:
    """A reader of a shard file that decompresses only the bytes it returns."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Open a file; `name` is for errors and determines the codec."""
        start = _read_exactly(file, 4)
        self.name, self.compression = name, codec_of(name, start)
        joined: Any = _PrefixedFile(start, file)
        self._file = _unpacked(joined, self.compression, name)
        self.at = 0

    def read(self, size: int) -> bytes:
        """Return exactly `size` uncompressed bytes.

        Raises:
            CorruptError: the file has fewer bytes, or cannot be decompressed.
        """
        try:
            data = _read_exactly(self._file, size)
        except (OSError, EOFError, ValueError, zstandard.ZstdError) as error:
            raise CorruptError(
                f"{self.name}: cannot be decompressed as {self.compression} ({error})"
            ) from None
        self.at += len(data)
        if len(data) < size:
            raise CorruptError(f"{self.name}: ends after {self.at:,} bytes; its header states more")
        return data

    def skip(self, size: int) -> None:
        """Read and discard `size` bytes."""
        while size > 0:
            size -= len(self.read(min(size, 1 << 20)))

    def is_at_end(self) -> bool:
        """Return whether the file ends here."""
        return not self._file.read(1)


def read_header(reader: ShardReader) -> ShardHeader:
    """Parse the header.

    Raises:
        CorruptError: the file is not an MDS shard.
    """
    name = reader.name
    (n,) = struct.unpack("<I", reader.read(4))
    if not n or n > MAX_SAMPLES:
        raise CorruptError(f"{name}: not an MDS shard: its header states {n:,} samples")
    offsets = struct.unpack(f"<{n + 1}I", reader.read(4 * (n + 1)))
    start = 4 + 4 * (n + 1)
    if not start < offsets[0] <= start + MAX_CONFIG_BYTES or any(
        a > b for a, b in pairwise(offsets)
    ):
        raise CorruptError(f"{name}: not an MDS shard: its offsets do not ascend from its header")
    try:
        config = json.loads(reader.read(offsets[0] - start))
        names, encodings = config["column_names"], config["column_encodings"]
        sizes = config["column_sizes"]
        columns = dict(zip(map(str, names), map(str, encodings), strict=True))
        by_name = dict(zip(columns, map(_size, sizes), strict=True))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptError(
            f"{name}: not an MDS shard: its header is unreadable ({error})"
        ) from None
    return ShardHeader(reader.compression, n, columns, by_name, offsets, reader.at)


def _size(value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or value < 0):
        raise ValueError(f"a column has a size of {value!r} bytes")
    return value


def read_sample(header: ShardHeader, data: bytes, name: str) -> dict[str, Any]:
    """Return the values of one sample; of other than scalar encodings, the size and first bytes.

    Raises:
        CorruptError: the columns do not fill the sample.
    """
    variable = [column for column, size in header.sizes.items() if size is None]
    if len(data) < 4 * len(variable):
        raise CorruptError(f"{name}: a sample of {len(data)} bytes is too short for its columns")
    lengths = dict(zip(variable, struct.unpack_from(f"<{len(variable)}I", data), strict=True))
    fixed = {column: size for column, size in header.sizes.items() if size is not None}
    sizes = [(lengths | fixed)[column] for column in header.columns]
    ends = list(accumulate(sizes, initial=4 * len(variable)))
    if ends[-1] != len(data):
        raise CorruptError(f"{name}: the columns do not fill a sample of {len(data)} bytes")
    return {
        column: value_of(encoding, data[start:end])
        for (column, encoding), (start, end) in zip(
            header.columns.items(), pairwise(ends), strict=True
        )
    }


def value_of(encoding: str, data: bytes) -> Any:
    """Return a value to show; a pickle is never loaded, because it can run code."""
    kind = encoding.partition(":")[0]
    if kind in REFUSED:
        return f"<pickle of {len(data):,} bytes, not decoded: it would run code>"
    if kind not in SCALARS:
        more = "…" if len(data) > 16 else ""
        return f"<{encoding}, {len(data):,} bytes: {data[:16].hex()}{more}>"
    try:
        return _json_value(decoder(kind)(data))
    except (ValueError, struct.error, RecursionError) as error:
        return f"<{encoding}, {len(data):,} bytes, not decodable: {error}>"


def _json_value(value: Any) -> Any:
    """Return a value that JSON can express: no integers over 64 bits, no lone surrogates."""
    if isinstance(value, dict):
        return {_json_value(str(key)): _json_value(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_json_value(one) for one in value]
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return str(value)
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _read_exactly(file: Any, size: int) -> bytes:
    parts, remaining = [], size
    while remaining and (part := file.read(min(remaining, 1 << 20))):
        parts.append(part)
        remaining -= len(part)
    return b"".join(parts)


class _PrefixedFile(io.RawIOBase):
    """A file whose first bytes have already been read."""

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
    """A file decompressed by brotli in chunks: a few bytes may expand to very many."""

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
        raise StoreError(f"{name}: compressed with {kind}; install the package {package}") from None
    if kind == "snappy":
        # Its blocks have no inner ends, so the complete file is decompressed.
        return io.BytesIO(codec.decompress(buffered.read()))
    return io.BufferedReader(_Brotli(buffered, codec), _CHUNK)
