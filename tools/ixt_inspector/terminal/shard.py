"""One shard file: its header, hashes and samples, with or without an entry of index.json."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

import xxhash

from ixt_data.errors import CorruptError, IxtError
from ixt_data.mds import digest
from ixt_data.storage import Storage
from ixt_inspector.terminal.shard_header import (
    MAX_SAMPLE_BYTES,
    ShardHeader,
    ShardReader,
    read_header,
    read_sample,
)


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """Samples to show, and whether to verify.

    Attributes:
        first: number of samples from the start.
        random: number of random samples; the shard is decompressed up to the last of them.
        seed: seed of the random samples.
        verify: whether to read complete files and compare sizes and hashes.
    """

    first: int = 1
    random: int = 0
    seed: int = 0
    verify: bool = False


@dataclass
class ShardView:
    """A shard file.

    Attributes:
        file: name, or path inside a store.
        bytes: size of the file.
        samples: number of samples in the header.
        raw_bytes: uncompressed size in the header.
        compression: codec of the file; None if it is not compressed.
        columns: MDS encodings by name, from the header.
        sizes: bytes of a value by column; None where it varies.
        hashes: hashes in the index.
        checked: whether the hashes were compared with the content.
        shown: samples by number.
        problems: problems of the file.
    """

    file: str
    bytes: int = 0
    samples: int = 0
    raw_bytes: int = 0
    compression: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int | None] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    checked: bool = False
    shown: dict[int, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Return uncompressed bytes divided by bytes of the file."""
        return self.raw_bytes / self.bytes if self.bytes else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the view as JSON values."""
        samples = [{"sample": number, "values": values} for number, values in self.shown.items()]
        return {**asdict(self), "ratio": self.ratio, "shown": samples}


def view_shard(
    storage: Storage,
    key: str,
    size: int,
    options: InspectOptions,
    entry: Mapping[str, Any] | None = None,
) -> ShardView:
    """Return the view of one shard file, with its problems.

    Args:
        storage: folder of the file.
        key: name of the file.
        size: bytes of the file.
        options: samples to show, and whether to verify.
        entry: entry of the file in index.json, if any.
    """
    view = ShardView(key, size)
    try:
        with storage.stream(key) as file:
            reader = ShardReader(file, key)
            header = read_header(reader)
            view.samples, view.raw_bytes = header.samples, header.raw_bytes
            view.compression = header.compression
            view.columns, view.sizes = header.columns, header.sizes
            _show(view, reader, header, options)
        if entry is not None:
            _compare(view, entry)
        if options.verify:
            _verify(storage, view, entry)
    except FileNotFoundError:
        view.problems.append("missing")
    except IxtError as error:
        view.problems.append(str(error).removeprefix(f"{key}: "))
    return view


def _show(
    view: ShardView, reader: ShardReader, header: ShardHeader, options: InspectOptions
) -> None:
    """Read the samples to show, in their order in the file."""
    first = range(min(options.first, header.samples))
    # The generator depends only on seed and shard: the same call shows the same samples.
    rng = random.Random(f"{options.seed} {view.file}")
    others = rng.sample(range(header.samples), min(options.random, header.samples))
    for number in sorted({*first, *others}):
        size = header.offsets[number + 1] - header.offsets[number]
        reader.skip(header.offsets[number] - reader.at)
        if size > MAX_SAMPLE_BYTES:
            view.shown[number] = {"": f"<{size:,} bytes: too long to show>"}
            continue
        try:
            view.shown[number] = read_sample(header, reader.read(size), view.file)
        except CorruptError as error:
            view.problems.append(f"sample {number}: {error}".replace(f"{view.file}: ", ""))


def _compare(view: ShardView, entry: Mapping[str, Any]) -> None:
    """Report differences between header and index."""
    stored = entry.get("zip_data") or entry["raw_data"]
    if view.file.rpartition("/")[2] != stored["basename"].rpartition("/")[2]:
        stored = entry["raw_data"]
    view.hashes = dict(stored.get("hashes") or {})
    values = {
        "samples": (entry["samples"], view.samples),
        "bytes": (stored["bytes"], view.bytes),
        "raw bytes": (entry["raw_data"]["bytes"], view.raw_bytes),
        "columns": (
            dict(zip(entry["column_names"], entry["column_encodings"], strict=False)),
            view.columns,
        ),
    }
    for name, (index, file) in values.items():
        if index != file:
            view.problems.append(f"index.json states {name} {index}, the file has {file}")


def _verify(storage: Storage, view: ShardView, entry: Mapping[str, Any] | None) -> None:
    """Read the complete file and check its hashes, and the size and hashes of its content."""
    with storage.stream(view.file) as file:
        digests = _digests(file, view.hashes)
    view.problems += [
        f"its {algorithm} is {digests[algorithm]}, index.json states {expected}"
        for algorithm, expected in view.hashes.items()
        if digests[algorithm] != expected
    ]
    raw = dict((entry or {}).get("raw_data", {}).get("hashes") or {})
    with storage.stream(view.file) as file:
        reader = ShardReader(file, view.file)
        hashes = {algorithm: _hash(algorithm) for algorithm in raw}
        remaining = view.raw_bytes
        while remaining:
            data = reader.read(min(remaining, 1 << 20))
            remaining -= len(data)
            for hashed in hashes.values():
                hashed.update(data)
        if not reader.is_at_end():
            view.problems.append(f"continues after its {view.raw_bytes:,} bytes")
    view.problems += [
        f"the {algorithm} of its uncompressed content is not {raw[algorithm]}"
        for algorithm, hashed in hashes.items()
        if hashed.hexdigest() != raw[algorithm]
    ]
    view.checked = True


def _digests(file: BinaryIO, algorithms: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    hashes = {algorithm: _hash(algorithm) for algorithm in algorithms}
    while data := file.read(1 << 20):
        for hashed in hashes.values():
            hashed.update(data)
    return {algorithm: hashed.hexdigest() for algorithm, hashed in hashes.items()}


def _hash(algorithm: str) -> Any:
    digest(algorithm, b"")
    if algorithm in xxhash.algorithms_available:
        return getattr(xxhash, algorithm)()
    return hashlib.new(algorithm)
