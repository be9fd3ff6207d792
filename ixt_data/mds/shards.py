"""MDS shards: a writer whose caller sets the shard boundaries, and a reader in one NumPy pass.

The format is mosaicml-streaming's (0.13): little-endian `u32 n`, `u32 offset[n + 1]`, the config
as JSON, then the samples. A sample is one `u32` size per column of variable size, then the columns
in alphabetical order. The writer's bytes equal those of MDSWriter. This module does not import
mosaicml-streaming: that package imports torch, and a critic's machine has another version of it.
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
from ixt_data.mds.index_entries import check_columns

COMPRESSION = "zstd:3"
SHARD_BYTES = 1 << 26
MAX_SHARD_BYTES = 1 << 31
"""A shard ends with the document that exceeds its size, and its offsets have 32 bits."""

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


class ShardFormat:
    """The form of the shards of one family: how samples are encoded, and shards written."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        """Prepare the encoders; `columns` is the MDS encoding by column."""
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

    def encode(self, columns: Mapping[str, Sequence[Any]]) -> list[bytes]:
        """Return the bytes of samples, which are given by column."""
        data = [list(map(encode, columns[name])) for name, encode, _ in self._columns]
        variable = [d for d, is_variable in zip(data, self._variable, strict=True) if is_variable]
        heads = map(self._head.pack, *(map(len, column) for column in variable))
        return list(map(b"".join, zip(heads, *data, strict=True)))

    def write(
        self, folder: Path, number: int, samples: Sequence[bytes | memoryview]
    ) -> dict[str, Any]:
        """Write encoded samples as one shard; return its entry of index.json.

        Raises:
            ValueError: the shard has more than 4 GiB.
        """
        config = json.dumps(self._config, sort_keys=True).encode()
        n = len(samples)
        offsets = np.zeros(n + 1, np.int64)
        np.cumsum([len(sample) for sample in samples], out=offsets[1:])
        offsets += 4 + 4 * (n + 1) + len(config)
        if offsets[-1] > 0xFFFFFFFF:
            raise ValueError(f"a shard has at most 4 GiB; this one has {offsets[-1]} bytes")
        head = struct.pack("<I", n) + offsets.astype("<u4").tobytes() + config
        raw = b"".join((head, *samples))
        packed = zstandard.ZstdCompressor(level=3).compress(raw)
        name = shard_name(number)
        (folder / name).write_bytes(packed)
        return {
            "samples": n,
            "raw_data": _file_info(name.removesuffix(".zstd"), raw),
            "zip_data": _file_info(name, packed),
            **self._config,
        }


class ShardWriter:
    """Writer of the shards of one family into one folder. The caller ends each shard with `cut`."""

    def __init__(self, folder: Path, columns: Mapping[str, str], first: int = 0) -> None:
        """Create a writer into one folder.

        Args:
            folder: created if it does not exist; `close` writes its index.json.
            columns: MDS encoding by column.
            first: number of the first shard.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.index: list[dict[str, Any]] = []
        self.size = 0
        self._next = first
        self._samples: list[bytes] = []
        self._format = ShardFormat(columns)

    def write(self, sample: Mapping[str, Any]) -> None:
        """Add one sample, by column, to the open shard."""
        (encoded,) = self._format.encode({name: (value,) for name, value in sample.items()})
        self._samples.append(encoded)
        self.size += len(encoded)

    @property
    def samples(self) -> int:
        """Number of samples in the open shard."""
        return len(self._samples)

    def cut(self) -> dict[str, Any]:
        """Write the open shard; return its entry of index.json.

        Raises:
            ValueError: the shard has more than 4 GiB.
        """
        self.index.append(self._format.write(self.folder, self._next, self._samples))
        self._next += 1
        self._samples, self.size = [], 0
        return self.index[-1]

    def close(self) -> None:
        """Write index.json."""
        write_index(self.folder, self.index)


def write_index(folder: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write the index.json of a folder with the entries of its shards."""
    index = {"version": 2, "shards": entries}
    (folder / "index.json").write_text(json.dumps(index, sort_keys=True))


def shard_name(number: int) -> str:
    """Return the name of the file of a shard."""
    return f"shard.{number:05d}.mds.zstd"


def _file_info(name: str, data: bytes) -> dict[str, Any]:
    hashes = {"xxh64": xxhash.xxh64(data).hexdigest()}
    return {"basename": name, "bytes": len(data), "hashes": hashes}


@dataclass(frozen=True)
class Shard:
    """One shard in memory, with the byte offsets of all columns.

    Attributes:
        data: the raw bytes, uncompressed.
        columns: MDS encoding by column.
        starts, ends: byte offsets of each column, int64[samples].
        samples: number of samples.
        name: name of the file, for errors.
    """

    data: bytes | mmap.mmap
    columns: dict[str, str]
    starts: dict[str, npt.NDArray[np.int64]]
    ends: dict[str, npt.NDArray[np.int64]]
    samples: int
    name: str

    def column(self, name: str) -> list[Any]:
        """Decode all values of one column, in the order of the samples.

        Raises:
            CorruptError: the shard has no such column, or a value is not one of its encoding.
        """
        if name not in self.columns:
            known = ", ".join(self.columns)
            raise CorruptError(f"{self.name}: no column {name!r}; columns: {known}")
        encoding, data = self.columns[name], self.data
        decode = decoder(encoding)
        bounds = zip(self.starts[name].tolist(), self.ends[name].tolist(), strict=True)
        try:
            return [decode(data[a:b]) for a, b in bounds]
        except (ValueError, struct.error, RecursionError) as error:
            raise CorruptError(
                f"{self.name}: a value of column {name!r} is not {encoding} ({error})"
            ) from None

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the samples in order, as dicts of some columns (all by default)."""
        names = list(columns or self.columns)
        for values in zip(*map(self.column, names), strict=True):
            yield dict(zip(names, values, strict=True))


def parse_shard(data: bytes | mmap.mmap, name: str) -> Shard:
    """Parse an uncompressed shard: find the columns of all samples.

    Raises:
        CorruptError: the bytes are not an MDS shard; the message contains `name`.
    """
    try:
        (n,) = struct.unpack_from("<I", data)
        offsets = np.frombuffer(data, "<u4", n + 1, 4).astype(np.int64)
        config = json.loads(bytes(data[4 + 4 * (n + 1) : int(offsets[0])]))
        check_columns(config)
    except (struct.error, ValueError, RecursionError) as error:
        raise CorruptError(f"{name}: not an MDS shard ({error})") from None
    names, encodings = config["column_names"], config["column_encodings"]
    sizes = config["column_sizes"]
    if offsets[-1] != len(data):
        raise CorruptError(f"{name}: {len(data)} bytes instead of {offsets[-1]}")
    variable = sum(size is None for size in sizes)
    smallest = 4 * variable + sum(size or 0 for size in sizes)
    if offsets[0] < 4 + 4 * (n + 1) or (np.diff(offsets) < smallest).any():
        raise CorruptError(f"{name}: a sample is shorter than its columns")
    buffer = np.frombuffer(data, np.uint8)
    # The size words of all samples in one gather: samples are not aligned.
    heads = offsets[:-1, None] + np.arange(4 * variable)
    lengths = np.ascontiguousarray(buffer[heads]).view("<u4").astype(np.int64)
    cursor, n_variable = offsets[:-1] + 4 * variable, 0
    starts, ends = {}, {}
    for column, size in zip(names, sizes, strict=True):
        starts[column] = cursor
        cursor = cursor + (lengths[:, n_variable] if size is None else size)
        ends[column] = cursor
        n_variable += size is None
    if not np.array_equal(cursor, offsets[1:]):
        raise CorruptError(f"{name}: the columns do not fill the samples")
    return Shard(data, dict(zip(names, encodings, strict=True)), starts, ends, n, name)


def read_shard(path: Path, index: Mapping[str, Any]) -> Shard:
    """Read one shard and check it against its entry of index.json.

    Raises:
        CorruptError: the file is missing, has another size or hash, or is not an MDS shard.
    """
    data = _read_checked(path, index)
    if index.get("zip_data"):
        data = decompress(data, index["compression"], index["raw_data"]["bytes"], str(path))
    shard = parse_shard(data, str(path))
    if shard.samples != index["samples"]:
        raise CorruptError(f"{path}: {shard.samples} samples instead of {index['samples']}")
    return shard


def read_sample(path: Path, index: Mapping[str, Any], row: int) -> dict[str, Any]:
    """Read one sample, checked as by `read_shard`; decompress the shard only up to its end.

    Raises:
        CorruptError: the file is missing, has another size or hash, or has no such row.
    """
    data, raw_bytes = _read_checked(path, index), index["raw_data"]["bytes"]
    packed = index["compression"] if index.get("zip_data") else ""
    if packed and packed.partition(":")[0] != "zstd":
        data, packed = decompress(data, packed, raw_bytes, str(path)), ""
    source: Any = io.BytesIO(data)
    if packed:
        source = zstandard.ZstdDecompressor().stream_reader(source)
    try:
        (n,) = struct.unpack("<I", source.read(4))
        # A hostile number of samples must not decide how much memory this takes.
        if 4 * (n + 2) > raw_bytes:
            raise ValueError(f"{n} samples in {raw_bytes} bytes")
        offsets = np.frombuffer(source.read(4 * (n + 1)), "<u4").astype(np.int64)
        if offsets.max() > raw_bytes or (np.diff(offsets) < 0).any():
            raise ValueError("samples outside of the shard")
        start, end = (int(offset) - 4 - 4 * (n + 1) for offset in offsets[row : row + 2])
        body = source.read(end)
        config = body[: int(offsets[0]) - 4 - 4 * (n + 1)]
    except (struct.error, ValueError, IndexError, zstandard.ZstdError) as error:
        raise CorruptError(f"{path}: no sample {row} in it ({error})") from None
    # Build a shard that contains only this sample.
    first = 12 + len(config)
    head = struct.pack("<III", 1, first, first + end - start)
    single = parse_shard(b"".join((head, config, body[start:])), str(path))
    return next(single.rows())


def _read_checked(path: Path, index: Mapping[str, Any]) -> bytes:
    """Read the bytes of a shard's file and check them against its entry of index.json."""
    stored = index.get("zip_data") or index["raw_data"]
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise CorruptError(
            f"{path}: missing. `ixt verify` names the documents that it contained"
        ) from None
    hashes = stored["hashes"]
    # All hashes cover the same bytes, and xxh64 is the fastest.
    for algorithm in ("xxh64",) if "xxh64" in hashes else hashes:
        if digest(algorithm, data) != hashes[algorithm]:
            raise CorruptError(f"{path}: its {algorithm} is not {hashes[algorithm]}")
    return data
