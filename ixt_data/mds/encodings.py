"""MDS column encodings, compressions and hashes, as mosaicml-streaming (0.13) names them."""

import bz2
import gzip
import hashlib
import importlib
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
"""Encodings whose values are numbers, strings or JSON; all others decode to their bytes."""

REFUSED = frozenset({"pkl"})
"""Encodings that run code when they are decoded."""

SIZES = {encoding: struct.calcsize(code) for encoding, code in _NUMBERS.items()}
"""Bytes of a value, for encodings of fixed size that are written here."""

ENCODE: dict[str, Callable[[Any], bytes]] = {
    "bytes": bytes,
    "str": str.encode,
    "json": lambda value: json.dumps(value).encode(),
    "float32": struct.Struct("<f").pack,
}


def decoder(encoding: str) -> Callable[[bytes], Any]:
    """Bytes to value for one encoding.

    Raises:
        StoreError: the encoding is refused.
    """
    if encoding in REFUSED:
        raise StoreError(
            f"columns of the encoding {encoding!r} are refused: decoding them runs whatever code "
            "they hold. Write the folder again with the column as str or json"
        )
    if encoding in _NUMBERS:
        unpack = struct.Struct(_NUMBERS[encoding]).unpack
        return lambda data: unpack(data)[0]
    if encoding in _TEXT:
        kind = _TEXT[encoding]
        return lambda data: kind(str(data, "utf-8"))
    return json.loads if encoding == "json" else bytes


def decompress(data: bytes, compression: str, size: int, name: str) -> bytes:
    """The raw bytes of a packed shard.

    Args:
        data: what its file holds.
        compression: `zstd`, `gz`, `bz2`, `br` or `snappy`, with or without `:level`.
        size: of the raw bytes, as the index says.
        name: of the file, for errors.

    Raises:
        CorruptError: the bytes are not so packed, or of another size.
        StoreError: the compression is not known here, or its package is not installed.
    """
    kind = compression.partition(":")[0]
    if kind not in _DECOMPRESS:
        known = ", ".join(_DECOMPRESS)
        raise StoreError(f"{name}: packed with {compression!r}; known are {known}")
    try:
        raw = _DECOMPRESS[kind](data, size)
    except ImportError as error:
        raise StoreError(f"{name}: packed with {compression!r}; {error.name} is missing") from None
    except Exception as error:
        raise CorruptError(f"{name}: cannot be unpacked as {compression} ({error})") from None
    if len(raw) != size:
        raise CorruptError(f"{name}: {len(raw)} bytes unpacked instead of {size}")
    return raw


def _with_package(package: str) -> Callable[[bytes, int], bytes]:
    return lambda data, size: bytes(importlib.import_module(package).decompress(data))


_DECOMPRESS: dict[str, Callable[[bytes, int], bytes]] = {
    "zstd": lambda data, size: bytes(zstandard.ZstdDecompressor().decompress(data, size)),
    "gz": lambda data, size: gzip.decompress(data),
    "bz2": lambda data, size: bz2.decompress(data),
    "br": _with_package("brotli"),
    "snappy": _with_package("snappy"),
}


def digest(algorithm: str, data: bytes) -> str:
    """The hexadecimal hash of `data` by xxhash or hashlib.

    Raises:
        StoreError: there is no such algorithm.
    """
    if algorithm in xxhash.algorithms_available:
        return str(getattr(xxhash, algorithm)(data).hexdigest())
    if algorithm in hashlib.algorithms_available and not algorithm.startswith("shake_"):
        return hashlib.new(algorithm, data).hexdigest()
    raise StoreError(f"no hash {algorithm!r}; use xxh64, or another of xxhash and hashlib")
