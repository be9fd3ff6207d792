"""Checks of what an index.json and a shard's header state, before anything relies on it."""

from collections.abc import Mapping
from typing import Any

MAX_RAW_BYTES = 0xFFFFFFFF
"""Uncompressed bytes that a shard can have: its offsets have 32 bits."""


def check_entry(entry: Any) -> None:
    """Check the types of a shard's entry of index.json.

    Raises:
        ValueError: a key is missing, or has a value of another type; the message names the key.
    """
    _require(isinstance(entry, dict), "an entry", "an object")
    _require(_is_size(entry.get("samples")), "samples", "a count")
    _check_file(entry.get("raw_data"), "raw_data")
    _require(entry["raw_data"]["bytes"] <= MAX_RAW_BYTES, "raw_data.bytes", "at most 4 GiB")
    if entry.get("zip_data") is not None:
        _check_file(entry["zip_data"], "zip_data")
        _require(isinstance(entry.get("compression"), str), "compression", "text")
    check_columns({"column_sizes": [None] * len(entry.get("column_names") or []), **entry})


def check_columns(config: Any) -> None:
    """Check the types of the columns in a shard's header, or in its entry of index.json.

    Raises:
        ValueError: a key is missing, or has a value of another type; the message names the key.
    """
    _require(isinstance(config, dict), "a header", "an object")
    names, encodings = config.get("column_names"), config.get("column_encodings")
    for key, values in {"column_names": names, "column_encodings": encodings}.items():
        is_texts = isinstance(values, list) and all(isinstance(value, str) for value in values)
        _require(is_texts, key, "a list of texts")
    sizes = config.get("column_sizes")
    is_sizes = isinstance(sizes, list) and all(n is None or _is_size(n) for n in sizes)
    _require(is_sizes, "column_sizes", "a list of sizes or null")
    _require(len(set(names)) == len(names), "column_names", "without repetition")
    _require(
        len(names) == len(encodings) == len(sizes),
        "column_names, column_encodings and column_sizes",
        "of one length",
    )


def _check_file(file: Any, key: str) -> None:
    _require(isinstance(file, dict), key, "an object")
    _require(isinstance(file.get("basename"), str), f"{key}.basename", "text")
    _require(_is_size(file.get("bytes")), f"{key}.bytes", "a number of bytes")
    hashes = file.get("hashes")
    is_hashes = isinstance(hashes, Mapping) and all(isinstance(h, str) for h in hashes.values())
    _require(is_hashes, f"{key}.hashes", "an object of texts")


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _require(is_right: bool, key: str, expected: str) -> None:
    if not is_right:
        raise ValueError(f"{key} must be {expected}")
