"""MDS shards: written aligned and durable, read in one NumPy pass.

The format is mosaicml-streaming's (0.13): little-endian `u32 n`, `u32 offset[n + 1]`, the config
as JSON, then the samples; a sample is one `u32` size per column of variable size, then the columns
in alphabetical order. What is written here equals byte for byte what its MDSWriter writes, and
nothing here imports it (it brings torch, and a critic's machine has another one).
"""

import io
import json
import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash
import zstandard

from ixt_data.errors import CorruptError
from ixt_data.mds.encodings import ENCODE, SIZES, decoder, decompress, digest

COMPRESSION = "zstd:3"
SHARD_BYTES = 1 << 26

TEXT_COLUMNS = {"doc_id": "bytes", "source": "str", "source_id": "str", "text": "str"}
CRITIQUE_COLUMNS = {
    "critique": "str",
    "doc_id": "bytes",
    "score": "float32",
    "scores": "json",
    "spans": "json",
    "status": "str",
}
# Little-endian integers, of 2 bytes where the vocabulary allows it, else of 4.
TOKENS_COLUMNS = {"doc_id": "bytes", "tokens": "bytes"}
CRITIQUE_TOKENS_COLUMNS = {**TOKENS_COLUMNS, "score": "float32", "status": "str"}
THINKING_COLUMNS = {"doc_id": "bytes", "thinking": "str"}


class ShardWriter:
    """Writes the shards of one family into one folder; the caller says where each one ends."""

    def __init__(self, folder: Path, columns: Mapping[str, str], first: int = 0) -> None:
        """A writer into one folder.

        Args:
            folder: made if need be; `close` leaves its index.json there.
            columns: MDS encoding by column.
            first: number of the first shard.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.index: list[dict[str, Any]] = []
        self.size = 0
        self._next = first
        self._samples: list[bytes] = []
        self._columns = [(name, ENCODE[columns[name]], columns[name]) for name in sorted(columns)]
        self._config = {
            "version": 2,
            "format": "mds",
            "compression": COMPRESSION,
            "hashes": ["xxh64"],
            "size_limit": None,
            "column_names": [name for name, _, _ in self._columns],
            "column_encodings": [encoding for _, _, encoding in self._columns],
            "column_sizes": [SIZES.get(encoding) for _, _, encoding in self._columns],
        }
        self._variable = [SIZES.get(encoding) is None for _, _, encoding in self._columns]
        self._head = struct.Struct(f"<{sum(self._variable)}I")

    def write(self, sample: Mapping[str, Any]) -> None:
        """Adds one sample to the shard that is open."""
        data = [encode(sample[name]) for name, encode, _ in self._columns]
        sizes = [len(d) for d, variable in zip(data, self._variable, strict=True) if variable]
        encoded = b"".join((self._head.pack(*sizes), *data))
        self._samples.append(encoded)
        self.size += len(encoded)

    @property
    def samples(self) -> int:
        """Samples in the shard that is open."""
        return len(self._samples)

    def cut(self) -> dict[str, Any]:
        """Ends the open shard; returns its entry of index.json."""
        config = json.dumps(self._config, sort_keys=True).encode()
        n = len(self._samples)
        offsets = np.zeros(n + 1, np.int64)
        np.cumsum([len(sample) for sample in self._samples], out=offsets[1:])
        offsets += 4 + 4 * (n + 1) + len(config)
        if offsets[-1] > 0xFFFFFFFF:
            raise ValueError(f"a shard holds at most 4 GiB; this one has {offsets[-1]} bytes")
        head = struct.pack("<I", n) + offsets.astype("<u4").tobytes() + config
        raw = b"".join((head, *self._samples))
        packed = zstandard.ZstdCompressor(level=3).compress(raw)
        name = f"shard.{self._next:05d}.mds"
        (self.folder / f"{name}.zstd").write_bytes(packed)
        self.index.append(
            {
                "samples": n,
                "raw_data": _file_info(name, raw),
                "zip_data": _file_info(f"{name}.zstd", packed),
                **self._config,
            }
        )
        self._next += 1
        self._samples, self.size = [], 0
        return self.index[-1]

    def close(self) -> None:
        """Writes index.json."""
        index = {"version": 2, "shards": self.index}
        (self.folder / "index.json").write_text(json.dumps(index, sort_keys=True))


def _file_info(name: str, data: bytes) -> dict[str, Any]:
    hashes = {"xxh64": xxhash.xxh64(data).hexdigest()}
    return {"basename": name, "bytes": len(data), "hashes": hashes}


@dataclass(frozen=True)
class Shard:
    """One shard in memory: the columns' places found for all samples in one pass.

    Attributes:
        data: the raw bytes, uncompressed.
        columns: MDS encoding by column.
        starts, ends: byte offsets of each column, int64[samples].
    """

    data: bytes | mmap.mmap
    columns: dict[str, str]
    starts: dict[str, npt.NDArray[np.int64]]
    ends: dict[str, npt.NDArray[np.int64]]
    samples: int

    def column(self, name: str) -> list[Any]:
        """All values of one column, decoded."""
        decode, data = decoder(self.columns[name]), self.data
        bounds = zip(self.starts[name].tolist(), self.ends[name].tolist(), strict=True)
        return [decode(data[a:b]) for a, b in bounds]

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The samples in order, as dicts of some columns (all by default)."""
        names = list(columns or self.columns)
        for values in zip(*map(self.column, names), strict=True):
            yield dict(zip(names, values, strict=True))


def parse_shard(data: bytes | mmap.mmap, name: str) -> Shard:
    """Finds the columns of all samples of an uncompressed shard.

    Raises:
        CorruptError: the bytes are not an MDS shard of encodings known here; `name` is named.
    """
    try:
        (n,) = struct.unpack_from("<I", data)
        offsets = np.frombuffer(data, "<u4", n + 1, 4).astype(np.int64)
        config = json.loads(bytes(data[4 + 4 * (n + 1) : int(offsets[0])]))
        names, encodings = config["column_names"], config["column_encodings"]
        sizes = config["column_sizes"]
    except (struct.error, ValueError, KeyError, IndexError, TypeError) as error:
        raise CorruptError(f"{name}: not an MDS shard ({error})") from None
    if offsets[-1] != len(data):
        raise CorruptError(f"{name}: {len(data)} bytes instead of {offsets[-1]}")
    variable = sum(size is None for size in sizes)
    buffer = np.frombuffer(data, np.uint8)
    # The size words of all samples at once, sample by sample since they are not aligned.
    heads = offsets[:-1, None] + np.arange(4 * variable)
    lengths = np.ascontiguousarray(buffer[heads]).view("<u4").astype(np.int64)
    cursor, seen = offsets[:-1] + 4 * variable, 0
    starts, ends = {}, {}
    for column, size in zip(names, sizes, strict=True):
        starts[column] = cursor
        cursor = cursor + (lengths[:, seen] if size is None else size)
        ends[column] = cursor
        seen += size is None
    if not np.array_equal(cursor, offsets[1:]):
        raise CorruptError(f"{name}: the columns do not fill the samples")
    return Shard(data, dict(zip(names, encodings, strict=True)), starts, ends, n)


def read_shard(path: Path, index: Mapping[str, Any]) -> Shard:
    """Reads one shard and checks it against its entry of index.json.

    Raises:
        CorruptError: missing, of another size or hash, or not an MDS shard.
    """
    data = _stored(path, index)
    if index.get("zip_data"):
        data = decompress(data, index["compression"], index["raw_data"]["bytes"], str(path))
    shard = parse_shard(data, str(path))
    if shard.samples != index["samples"]:
        raise CorruptError(f"{path}: {shard.samples} samples instead of {index['samples']}")
    return shard


def read_sample(path: Path, index: Mapping[str, Any], row: int) -> dict[str, Any]:
    """One sample of a shard, checked as by `read_shard`; no more than up to its end is unpacked.

    Raises:
        CorruptError: missing, of another size or hash, or without such a row.
    """
    data = _stored(path, index)
    packed = index["compression"] if index.get("zip_data") else ""
    if packed and packed.partition(":")[0] != "zstd":
        data, packed = decompress(data, packed, index["raw_data"]["bytes"], str(path)), ""
    source: Any = io.BytesIO(data)
    if packed:
        source = zstandard.ZstdDecompressor().stream_reader(source)
    try:
        (n,) = struct.unpack("<I", source.read(4))
        offsets = np.frombuffer(source.read(4 * (n + 1)), "<u4").astype(np.int64)
        start, end = (int(place) - 4 - 4 * (n + 1) for place in offsets[row : row + 2])
        body = source.read(end)
        config = body[: int(offsets[0]) - 4 - 4 * (n + 1)]
    except (struct.error, ValueError, IndexError, zstandard.ZstdError) as error:
        raise CorruptError(f"{path}: no sample {row} in it ({error})") from None
    # A shard of its own, of one sample.
    first = 12 + len(config)
    head = struct.pack("<III", 1, first, first + end - start)
    alone = parse_shard(b"".join((head, config, body[start:])), str(path))
    return next(alone.rows())


def _stored(path: Path, index: Mapping[str, Any]) -> bytes:
    """The bytes of a shard's file, checked against its entry of index.json."""
    stored = index.get("zip_data") or index["raw_data"]
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise CorruptError(f"{path}: missing. `ixt verify` tells what it held") from None
    hashes = stored["hashes"]
    # All are of the same bytes, and this one costs nothing.
    for algorithm in ("xxh64",) if "xxh64" in hashes else hashes:
        if digest(algorithm, data) != hashes[algorithm]:
            raise CorruptError(f"{path}: its {algorithm} is not {hashes[algorithm]}")
    return data
