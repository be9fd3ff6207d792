"""A reader of stores that knows nothing but docs/format.md: no ixt, no streaming, no DuckDB."""

import hashlib
import io
import json
import struct
from pathlib import Path

import pyarrow.parquet as pq
import xxhash
import zstandard

FIELDS = (("rows_add", "rows_remove"), ("shards_add", "shards_remove"))
DECODE = {"str": bytes.decode, "bytes": bytes, "json": json.loads}
DECODE["float32"] = lambda data: struct.unpack("<f", data)[0]


def checked(data: bytes, found: str, wanted: str) -> bytes:
    assert found == wanted, "not what was written"
    return data


def snapshot(root: Path, at: int) -> tuple[dict, dict, dict]:
    """Files of rows and shards by path, and critics by id, of a version."""
    assert json.loads((root / "ixt.json").read_bytes())["format"] == 2
    states, critics = ({}, {}), {}
    for version in range(1, at + 1):
        line, digest, _ = (root / "_log" / f"{version:020d}.json").read_bytes().split(b"\n")
        entry = json.loads(checked(line, hashlib.sha256(line).hexdigest(), digest.decode()))
        for state, (added, removed) in zip(states, FIELDS, strict=True):
            for path in entry.get(removed, []):
                state.pop(path, None)
            state.update((new["path"], new) for new in entry.get(added, []))
        critics.update((new["id"], new) for new in entry.get("critics", []))
    return *states, critics


def table(root: Path, rows: dict, name: str) -> list[dict]:
    """Rows of a table, each with its generation."""
    found = []
    for file in (file for file in rows.values() if file["table"] == name):
        data = (root / file["path"]).read_bytes()
        checked(data, hashlib.sha256(data).hexdigest(), file["sha256"])
        generation = {"generation": file.get("generation", 0)}
        found += [row | generation for row in pq.read_table(io.BytesIO(data)).to_pylist()]
    return found


def samples(root: Path, shard: dict) -> list[dict]:
    """The samples of a shard, in order."""
    data = (root / shard["path"]).read_bytes()
    stored = shard["packed"] or shard["raw"]
    checked(data, xxhash.xxh64_hexdigest(data), stored["hashes"]["xxh64"])
    data = zstandard.ZstdDecompressor().decompress(data) if shard["packed"] else data
    (n,) = struct.unpack_from("<I", data)
    offsets = struct.unpack_from(f"<{n + 1}I", data, 4)
    config = json.loads(data[4 + 4 * (n + 1) : offsets[0]])
    names, sizes = config["column_names"], config["column_sizes"]
    found = []
    for at in offsets[:-1]:
        variable = iter(struct.unpack_from(f"<{sizes.count(None)}I", data, at))
        at, sample = at + 4 * sizes.count(None), {}
        for name, encoding, size in zip(names, config["column_encodings"], sizes, strict=True):
            end = at + (next(variable) if size is None else size)
            sample[name], at = DECODE[encoding](data[at:end]), end
        found.append(sample)
    return found
