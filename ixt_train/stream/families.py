"""Aligned families as one: a text shard and its critique shard are read as one logical shard."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from streaming.base.format.mds import MDSReader

from ixt_data.errors import CorruptError
from ixt_data.log import ShardInfo
from ixt_data.mds import Shard, parse_shard
from ixt_data.records import ID_BYTES, OK, content_id, encoded_id
from ixt_data.store import folder_of, location_of
from ixt_train.stream.shard_files import ShardFiles

Offsets = npt.NDArray[np.uint32]
LogicalShard = Sequence[tuple[ShardInfo, Mapping[str, str]]]
"""Aligned shards, documents first, each with the columns to read and their names in `OpenShard`."""


def index_entry(shard: ShardInfo, copy: int = 0) -> dict[str, Any]:
    """Return a shard's entry of an index.json, with basenames relative to the store's root.

    A shard of an adopted folder, outside of the store, gets a separate folder. So does every
    further copy of a shard, because one may be evicted while another is read.

    Raises:
        CorruptError: a basename is outside of the shard's folder.
    """
    entry = dict(shard.index)
    folder = PurePosixPath(shard.path).parent
    if shard.is_external:
        folder = PurePosixPath("adopted", content_id(folder_of(shard)))
    if copy:
        folder = PurePosixPath(f"copy-{copy}") / folder
    for key in ("raw_data", "zip_data"):
        if entry.get(key):
            name = entry[key]["basename"]
            path = folder / name
            if "\\" in name or path.is_absolute() or ".." in path.parts:
                raise CorruptError(f"{shard.path}: its index names {name!r}, outside of the store")
            entry[key] = {**entry[key], "basename": path.as_posix()}
    return entry


def _stored(entry: Mapping[str, Any]) -> str:
    """Return the basename of the stored file."""
    return str((entry["zip_data"] or entry["raw_data"])["basename"])


@dataclass(frozen=True, slots=True)
class ColumnSlices:
    """The values of one column in a file: byte offsets, uint32[samples] each."""

    data: memoryview
    starts: Offsets
    ends: Offsets


@dataclass(frozen=True, slots=True)
class OpenShard:
    """One logical shard in memory; a failed critique counts as missing.

    Attributes:
        doc_ids: V16[samples].
        columns: values of variable size by name: `text` or `tokens`, `critique` or
            `critique_tokens`, `spans`.
        score: NaN if there is none, float32[samples].
        has_spans: whether any sample has spans.
        no_values: an empty value for every sample.
    """

    doc_ids: npt.NDArray[np.void]
    columns: dict[str, ColumnSlices]
    score: npt.NDArray[np.float32]
    has_spans: bool
    no_values: ColumnSlices

    def data(self, column: str) -> memoryview:
        """Return the file that has a column, or the first one if no file has it."""
        return (self.columns.get(column) or self.no_values).data


def _map(path: Path) -> memoryview:
    """Map a file into memory.

    The map needs no open file: a plan may use more shards than a process may open files.

    Raises:
        FileNotFoundError: the file is not in the local folder (any more).
        CorruptError: the file is empty or cannot be mapped.
    """
    size = path.stat().st_size
    if not size:
        raise CorruptError(f"{path}: empty. Delete the file")
    try:
        mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    except RuntimeError as error:
        if path.exists():
            raise CorruptError(f"{path}: {error}. Delete the file") from None
        raise FileNotFoundError(path) from None
    return mapped.numpy().data


def _parse(path: Path, samples: int) -> Shard:
    """Map a file and parse its columns in one pass.

    Raises:
        FileNotFoundError: the file is not in the local folder (any more).
        CorruptError: the file is not a shard, or not the one in the index.
    """
    try:
        shard = parse_shard(cast("bytes", _map(path)), str(path))
    except CorruptError as error:
        raise CorruptError(f"{error}. Delete the file") from None
    if shard.samples != samples:
        raise CorruptError(f"{path}: {shard.samples} samples instead of {samples}. Delete the file")
    return shard


def _fixed(shard: Shard, name: str, kind: str) -> npt.NDArray[Any]:
    """Return the values of a column of fixed size, in one pass.

    Raises:
        CorruptError: a value has another size.
    """
    size = np.dtype(kind).itemsize
    starts = shard.starts[name]
    if (shard.ends[name] - starts != size).any():
        raise CorruptError(f"column {name}: a value is not {size} bytes long")
    data = np.frombuffer(shard.data, np.uint8)
    return data[starts[:, None] + np.arange(size)].view(kind)[:, 0]


def _is_ok(shard: Shard) -> npt.NDArray[np.bool_]:
    """Return which critiques have the status `ok`, bool[samples]."""
    expected, starts = OK.encode(), shard.starts["status"]
    has_length = shard.ends["status"] - starts == len(expected)
    data = np.frombuffer(shard.data, np.uint8)
    statuses = data[np.where(has_length, starts, 0)[:, None] + np.arange(len(expected))]
    is_equal: npt.NDArray[np.bool_] = has_length & (
        statuses == np.frombuffer(expected, np.uint8)
    ).all(axis=1)
    return is_equal


def _ids(shard: Shard, text: str | None) -> npt.NDArray[np.void]:
    """Return the ids of all samples, V16[samples]; hash the column `text` if it is given."""
    if text is None:
        return _fixed(shard, "doc_id", f"V{ID_BYTES}")
    bounds = zip(shard.starts[text].tolist(), shard.ends[text].tolist(), strict=True)
    digests = b"".join([encoded_id(shard.data[start:end]) for start, end in bounds])
    return np.frombuffer(digests, f"V{ID_BYTES}")


def _slices(shard: Shard, starts: npt.NDArray[Any], ends: npt.NDArray[Any]) -> ColumnSlices:
    data = cast("memoryview", shard.data)
    return ColumnSlices(data, starts.astype("<u4"), ends.astype("<u4"))


class FamilyReader:
    """A reader of a text shard and its critique shard, if there is one, as one logical shard."""

    def __init__(
        self,
        parts: Sequence[MDSReader],
        projections: Sequence[Mapping[str, str]],
        adopted_text: Sequence[str | None],
        files: ShardFiles,
    ) -> None:
        """Join aligned shards.

        Args:
            parts: entries of the same samples, text first.
            projections: columns to read from each part, with their names in `OpenShard`.
            adopted_text: text column of each part in an adopted folder, None for other parts.
            files: the local folder.

        Raises:
            CorruptError: the shards have different numbers of samples.
            ValueError: decoding a column could run code.
        """
        sizes = {part.raw_data.basename: part.samples for part in parts}
        if len(set(sizes.values())) > 1:
            raise CorruptError(f"aligned shards have different numbers of samples: {sizes}")
        for part in parts:
            part.validate(allow_unsafe_types=False)
        self.parts, self.projections = tuple(parts), tuple(projections)
        self._adopted_text, self._files = tuple(adopted_text), files
        self.samples = int(parts[0].samples)
        self.paths = [files.path(part.raw_data) for part in parts]
        self.opened: OpenShard | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "opened": None}

    @property
    def raw_bytes(self) -> int:
        """Bytes of its files, uncompressed."""
        return sum(int(part.raw_data.bytes) for part in self.parts)

    @property
    def max_bytes(self) -> int:
        """Bytes of its files while they are copied, uncompressed and compressed."""
        zipped = sum(part.zip_data.bytes for part in self.parts if part.zip_data)
        return self.raw_bytes + int(zipped)

    @property
    def is_cached(self) -> bool:
        """Whether all its files are in the local folder."""
        return all(path.is_file() for path in self.paths)

    def fetch(self) -> None:
        """Copy its missing files into the local folder; see `ShardFiles.fetch`."""
        for part in self.parts:
            self._files.fetch(part)

    def touch(self) -> None:
        """Mark its files as used now."""
        for path in self.paths:
            self._files.touch(path)

    def open(self) -> OpenShard:
        """Map all files and find the values of the requested columns.

        Raises:
            FileNotFoundError: a file is not in the local folder.
            CorruptError: a file was changed, or the families are not about the same documents.
        """
        columns: dict[str, ColumnSlices] = {}
        score = np.full(self.samples, np.nan, np.float32)
        mapped = [
            _parse(path, part.samples) for path, part in zip(self.paths, self.parts, strict=True)
        ]
        ids = [_ids(shard, text) for shard, text in zip(mapped, self._adopted_text, strict=True)]
        for part, part_ids in zip(self.parts[1:], ids[1:], strict=True):
            self._check_aligned(part, ids[0], part_ids)
        for shard, projections, text in zip(
            mapped, self.projections, self._adopted_text, strict=True
        ):
            # Columns of adopted shards have the user's names, whatever they are.
            ok = _is_ok(shard) if text is None and "status" in shard.starts else None
            for name, known_as in projections.items():
                starts, ends = shard.starts[name], shard.ends[name]
                if ok is not None:
                    ends = np.where(ok, ends, starts)
                columns[known_as] = _slices(shard, starts, ends)
            if ok is not None:
                score = np.where(ok, _fixed(shard, "score", "<f4"), np.float32(np.nan))
        spans = columns.get("spans")
        # `[]` takes two bytes.
        has_spans = spans is not None and bool((spans.ends > spans.starts + 2).any())
        zeros = np.zeros(self.samples, np.uint32)
        no_values = _slices(mapped[0], zeros, zeros)
        self.opened = OpenShard(ids[0], columns, score, has_spans, no_values)
        return self.opened

    def map(self, column: str) -> memoryview:
        """Map the file that has a column, or the first one, without parsing it.

        Raises:
            FileNotFoundError: the file is not in the local folder.
            CorruptError: the file was changed.
        """
        names = [projections.values() for projections in self.projections]
        number = next((i for i, known_as in enumerate(names) if column in known_as), 0)
        data = _map(self.paths[number])
        if len(data) != self.parts[number].raw_data.bytes:
            raise CorruptError(f"{self.paths[number]}: {len(data)} bytes. Delete the file")
        return data

    def _check_aligned(self, part: MDSReader, first: Any, part_ids: Any) -> None:
        different = np.flatnonzero(first != part_ids)
        if len(different):
            raise CorruptError(
                f"{part.raw_data.basename}: sample {different[0]} is about another document than "
                f"in {self.parts[0].raw_data.basename}"
            )


def build_readers(
    root: str,
    shards: Sequence[LogicalShard],
    local: Path,
    *,
    max_bytes: int | None,
    timeout: float,
    retries: int,
) -> tuple[ShardFiles, list[FamilyReader], list[dict[str, Any]]]:
    """Return the files of some logical shards, their readers, and the entries of an index.json.

    The arguments are those of `ShardFiles`.

    Raises:
        CorruptError: a basename is outside of its folder, or shards are not aligned.
    """
    seen: Counter[str] = Counter()
    external: dict[str, str] = {}
    entries: list[list[dict[str, Any]]] = []
    for logical in shards:
        entries.append([index_entry(info, seen[info.path]) for info, _ in logical])
        for entry, (info, _) in zip(entries[-1], logical, strict=True):
            if info.is_external:
                external[_stored(entry)] = location_of(info)
            elif seen[info.path]:
                external[_stored(entry)] = f"{root.rstrip('/')}/{info.path}"
            seen[info.path] += 1
    files = ShardFiles(root, local, external, max_bytes=max_bytes, timeout=timeout, retries=retries)
    readers = []
    for parts, logical in zip(entries, shards, strict=True):
        mds = [MDSReader.from_json(str(local), "", entry) for entry in parts]
        adopted_text = [info.text_column if info.is_external else None for info, _ in logical]
        readers.append(FamilyReader(mds, [columns for _, columns in logical], adopted_text, files))
    files.check_limit(max((reader.max_bytes for reader in readers), default=0))
    return files, readers, [parts[0] for parts in entries]
