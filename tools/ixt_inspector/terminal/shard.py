"""One shard file: its head, its hashes and its samples, with or without an entry of index.json."""

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
    MOST_SAMPLE,
    BoundedReader,
    ShardHeader,
    read_head,
    read_sample,
)


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """How much to look at.

    Attributes:
        first: samples from the beginning.
        random: samples from anywhere; the whole shard is unpacked up to the last of them.
        seed: which those are.
        verify: read whole files and compare sizes and hashes.
    """

    first: int = 1
    random: int = 0
    seed: int = 0
    verify: bool = False


@dataclass
class ShardView:
    """What one shard file is.

    Attributes:
        file: its name, or path inside of a store.
        samples, columns, raw_bytes: as its head says; columns are MDS encodings by name.
        bytes: size of the file.
        compression: codec of the file, None if it is not packed.
        hashes: as the index says.
        checked: whether they were compared with the content.
        shown: samples by their number.
        problems: what is wrong with it.
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
        """Uncompressed bytes by bytes of the file."""
        return self.raw_bytes / self.bytes if self.bytes else 0.0

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        samples = [{"sample": number, "values": values} for number, values in self.shown.items()]
        return {**asdict(self), "ratio": self.ratio, "shown": samples}


def view_shard(
    place: Storage,
    key: str,
    size: int,
    asked: InspectOptions,
    entry: Mapping[str, Any] | None = None,
) -> ShardView:
    """Looks at one shard file; what is wrong with it is in the view.

    Args:
        place: where it is.
        key: its name there.
        size: bytes of the file.
        asked: how much to look at.
        entry: what index.json says of it.
    """
    view = ShardView(key, size)
    try:
        with place.stream(key) as file:
            front = BoundedReader(file, key)
            head = read_head(front)
            view.samples, view.raw_bytes = head.samples, head.raw_bytes
            view.compression = head.compression
            view.columns, view.sizes = head.columns, head.sizes
            _show(view, front, head, asked)
        if entry is not None:
            _compare(view, entry)
        if asked.verify:
            _verify(place, view, entry)
    except FileNotFoundError:
        view.problems.append("missing")
    except IxtError as error:
        view.problems.append(str(error).removeprefix(f"{key}: "))
    return view


def _show(view: ShardView, front: BoundedReader, head: ShardHeader, asked: InspectOptions) -> None:
    """Reads on to the samples that are asked for, in their order."""
    first = range(min(asked.first, head.samples))
    # The seed and the shard decide, so that the same call shows the same samples.
    chance = random.Random(f"{asked.seed} {view.file}")
    others = chance.sample(range(head.samples), min(asked.random, head.samples))
    for number in sorted({*first, *others}):
        size = head.offsets[number + 1] - head.offsets[number]
        front.skip(head.offsets[number] - front.at)
        if size > MOST_SAMPLE:
            view.shown[number] = {"": f"<{size:,} bytes: too long to show>"}
            continue
        try:
            view.shown[number] = read_sample(head, front.read(size), view.file)
        except CorruptError as error:
            view.problems.append(f"sample {number}: {error}".replace(f"{view.file}: ", ""))


def _compare(view: ShardView, entry: Mapping[str, Any]) -> None:
    """What the head and the index say differently."""
    stored = entry.get("zip_data") or entry["raw_data"]
    if view.file.rpartition("/")[2] != stored["basename"].rpartition("/")[2]:
        stored = entry["raw_data"]
    view.hashes = dict(stored.get("hashes") or {})
    said = {
        "samples": (entry["samples"], view.samples),
        "bytes": (stored["bytes"], view.bytes),
        "raw bytes": (entry["raw_data"]["bytes"], view.raw_bytes),
        "columns": (
            dict(zip(entry["column_names"], entry["column_encodings"], strict=False)),
            view.columns,
        ),
    }
    for what, (index, file) in said.items():
        if index != file:
            view.problems.append(f"index.json says {what} {index}, the file has {file}")


def _verify(place: Storage, view: ShardView, entry: Mapping[str, Any] | None) -> None:
    """Reads the whole file: its hashes, and the size and hashes of what is unpacked."""
    with place.stream(view.file) as file:
        found = _digests(file, view.hashes)
    view.problems += [
        f"its {algorithm} is {found[algorithm]}, index.json says {expected}"
        for algorithm, expected in view.hashes.items()
        if found[algorithm] != expected
    ]
    raw = dict((entry or {}).get("raw_data", {}).get("hashes") or {})
    with place.stream(view.file) as file:
        front = BoundedReader(file, view.file)
        hashes = {algorithm: _hash(algorithm) for algorithm in raw}
        left = view.raw_bytes
        while left:
            data = front.read(min(left, 1 << 20))
            left -= len(data)
            for hashed in hashes.values():
                hashed.update(data)
        if not front.ended():
            view.problems.append(f"goes on after its {view.raw_bytes:,} bytes")
    view.problems += [
        f"unpacked, its {algorithm} is not {raw[algorithm]}"
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
