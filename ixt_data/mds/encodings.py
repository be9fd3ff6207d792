"""MDS column encodings, compressions and hashes, under the names of mosaicml-streaming (0.13)."""

import bz2
import gzip
import hashlib
import importlib
import io
import json
import struct
from collections.abc import Callable
from typing import Any

import xxhash
import zstandard

from ixt_data.errors import CorruptError, StoreError

_NUMBERS = {
    **{"int": "<q", "int8": "<b", "int16": "<h", "int32": "<i", "int64": "<q"},
    **{"uint8": "<B", "uint16": "<H", "uint32": "<I", "uint64": "<Q"},
    **{"float16": "<e", "float32": "<f", "float64": "<d"},
}
_TEXT = {"str": str, "str_int": int, "str_float": float, "str_decimal": str}
SCALARS = frozenset({*_NUMBERS, *_TEXT, "json"})
"""Encodings of numbers, strings and JSON; all others decode to their bytes."""

CHUNK = 1 << 20

REFUSED = frozenset({"pkl"})
"""Encodings that are refused, because decoding them runs code."""

SIZES = {encoding: struct.calcsize(code) for encoding, code in _NUMBERS.items()}
"""Bytes per value, for the encodings of fixed size that the writer supports."""

ENCODE: dict[str, Callable[[Any], bytes]] = {
    "bytes": bytes,
    "str": str.encode,
    "json": lambda value: json.dumps(value).encode(),
    "float32": struct.Struct("<f").pack,
}


def decoder(encoding: str) -> Callable[[bytes], Any]:
    """Return the function that decodes the bytes of one encoding.

    Raises:
        StoreError: the encoding is refused.
    """
    if encoding in REFUSED:
        raise StoreError(
            f"columns of the encoding {encoding!r} are refused: decoding them runs any code that "
            "they contain. Write the folder again with the column as str or json"
        )
    if encoding in _NUMBERS:
        unpack = struct.Struct(_NUMBERS[encoding]).unpack
        return lambda data: unpack(data)[0]
    if encoding in _TEXT:
        kind = _TEXT[encoding]
        return lambda data: kind(str(data, "utf-8"))
    return json.loads if encoding == "json" else bytes


def decompress(data: bytes, compression: str, size: int, name: str) -> bytes:
    """Decompress a shard, into at most one block more than its stated size.

    Args:
        data: the bytes of the compressed file.
        compression: `zstd`, `gz`, `bz2`, `br` or `snappy`, with or without `:level`.
        size: number of uncompressed bytes, from the index.
        name: name of the file, for errors.

    Raises:
        CorruptError: the bytes are not compressed like this, or have another size.
        StoreError: the compression is unknown, or its package is not installed.
    """
    kind = compression.partition(":")[0]
    if kind not in _DECOMPRESS:
        known = ", ".join(_DECOMPRESS)
        raise StoreError(f"{name}: unknown compression {compression!r}; valid: {known}")
    try:
        raw = _DECOMPRESS[kind](data, size)
    except ImportError as error:
        raise StoreError(
            f"{name}: compressed with {compression!r}; the package {error.name} is not installed"
        ) from None
    except Exception as error:
        raise CorruptError(f"{name}: cannot be decompressed as {compression} ({error})") from None
    if len(raw) != size:
        raise CorruptError(f"{name}: {len(raw)} bytes after decompression instead of {size}")
    return raw


def _zstd(data: bytes, size: int) -> bytes:
    # A size in the frame has precedence over the limit of the decompressor.
    stated = zstandard.get_frame_parameters(data).content_size
    if stated not in (size, zstandard.CONTENTSIZE_UNKNOWN):
        raise ValueError(f"{stated} bytes instead of {size}")
    return bytes(zstandard.ZstdDecompressor().decompress(data, size))


def _gzip(data: bytes, size: int) -> bytes:
    return gzip.GzipFile(fileobj=io.BytesIO(data)).read(size + 1)


def _bzip2(data: bytes, size: int) -> bytes:
    return bz2.BZ2File(io.BytesIO(data)).read(size + 1)


def _brotli(data: bytes, size: int) -> bytes:
    decoder = importlib.import_module("brotli").Decompressor()
    pieces, total, remaining = [], 0, data
    while total <= size and not decoder.is_finished():
        piece = decoder.process(remaining, output_buffer_limit=CHUNK)
        if not piece and decoder.can_accept_more_data() and not remaining:
            raise ValueError("truncated")
        remaining = b""
        pieces.append(piece)
        total += len(piece)
    return b"".join(pieces)


def _snappy(data: bytes, size: int) -> bytes:
    # The block starts with its uncompressed size, 7 bits per byte.
    stated = 0
    for i, byte in enumerate(data[:5]):
        stated |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            break
    if stated != size:
        raise ValueError(f"{stated} bytes instead of {size}")
    return bytes(importlib.import_module("snappy").decompress(data))


_DECOMPRESS: dict[str, Callable[[bytes, int], bytes]] = {
    "zstd": _zstd,
    "gz": _gzip,
    "bz2": _bzip2,
    "br": _brotli,
    "snappy": _snappy,
}


def digest(algorithm: str, data: bytes) -> str:
    """Compute the hexadecimal hash of `data` by xxhash or hashlib.

    Raises:
        StoreError: the algorithm is unknown.
    """
    if algorithm in xxhash.algorithms_available:
        return str(getattr(xxhash, algorithm)(data).hexdigest())
    if algorithm in hashlib.algorithms_available and not algorithm.startswith("shake_"):
        return hashlib.new(algorithm, data).hexdigest()
    raise StoreError(
        f"unknown hash {algorithm!r}; use xxh64, or another algorithm of xxhash or hashlib"
    )
