"""Aligned families as one: a text shard and its critique shard are cached and evicted together.

Only this module, `mix_stream` and `shard_cache` use the internals of mosaicml-streaming (0.13).
"""

import mmap
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from streaming import Stream
from streaming.base.compression import decompress
from streaming.base.format.base.reader import FileInfo, Reader
from streaming.base.format.mds.reader import MDSReader
from streaming.base.hashing import get_hash
from streaming.base.storage.download import CloudDownloader
from streaming.base.util import retry
from streaming.base.world import World

from ixt_data.errors import CorruptError, StoreError
from ixt_data.log import ShardInfo
from ixt_data.mds import Shard, parse_shard
from ixt_data.records import ID_BYTES, OK, content_id, encoded_id
from ixt_data.storage import atomic_write
from ixt_data.store import folder_of

INDEX = "index.json"
_REMEDY = "Restore it from a copy; `ixt verify` finds every shard like it"

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

    data: bytes | mmap.mmap
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


def _map(path: Path, samples: int) -> Shard:
    """Map a file into memory and parse its columns in one pass.

    Raises:
        FileNotFoundError: the file is not in the local folder (any more).
        CorruptError: the file is not a shard, or not the one in the index.
    """
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise CorruptError(f"{path}: empty. Delete the file")
        data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    try:
        shard = parse_shard(data, str(path))
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
    """Return the ids of all samples, V16[samples]; hash the column `text` without ids."""
    if text is None:
        return _fixed(shard, "doc_id", f"V{ID_BYTES}")
    bounds = zip(shard.starts[text].tolist(), shard.ends[text].tolist(), strict=True)
    digests = b"".join([encoded_id(shard.data[start:end]) for start, end in bounds])
    return np.frombuffer(digests, f"V{ID_BYTES}")


class FamilyReader(Reader):  # type: ignore[misc]
    """A reader of a text shard and its critique shard, if there is one, as one logical shard."""

    def __init__(
        self,
        parts: Sequence[MDSReader],
        projections: Sequence[Mapping[str, str]],
        adopted_text: Sequence[str | None],
    ) -> None:
        """Join aligned shards.

        Args:
            parts: readers of the same samples, text first.
            projections: columns to read from each part, with their names in `OpenShard`.
            adopted_text: text column of each part in an adopted folder, None for other parts.
        """
        text = parts[0]
        if any(part.samples != text.samples for part in parts):
            sizes = {part.raw_data.basename: part.samples for part in parts}
            raise CorruptError(f"aligned shards have different numbers of samples: {sizes}")
        super().__init__(
            text.dirname, text.split, text.compression, text.hashes, text.samples, None
        )
        self.parts, self.projections, self._adopted_text = (
            tuple(parts),
            tuple(projections),
            tuple(adopted_text),
        )
        self.opened: OpenShard | None = None
        for part in parts:
            self.file_pairs += part.file_pairs

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "opened": None}

    def validate(self, allow_unsafe_types: bool) -> None:
        """Refuse columns whose decoding could run code."""
        for part in self.parts:
            part.validate(allow_unsafe_types)

    @property
    def is_cached(self) -> bool:
        """Whether all its files are in the local folder."""
        return all(Path(self.dirname, raw.basename).is_file() for raw, _ in self.file_pairs)

    def open(self) -> OpenShard:
        """Map all files and find the values of the requested columns.

        Raises:
            FileNotFoundError: a file is not in the local folder.
            CorruptError: a file was changed, or the families are not about the same documents.
        """
        columns: dict[str, ColumnSlices] = {}
        score = np.full(self.samples, np.nan, np.float32)
        mapped = [
            _map(Path(self.dirname, part.raw_data.basename), part.samples) for part in self.parts
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
                columns[known_as] = ColumnSlices(
                    shard.data, starts.astype("<u4"), ends.astype("<u4")
                )
            if ok is not None:
                score = np.where(ok, _fixed(shard, "score", "<f4"), np.float32(np.nan))
        spans = columns.get("spans")
        # `[]` takes two bytes.
        has_spans = spans is not None and bool((spans.ends > spans.starts + 2).any())
        zeros = np.zeros(self.samples, np.uint32)
        no_values = ColumnSlices(mapped[0].data, zeros, zeros)
        self.opened = OpenShard(ids[0], columns, score, has_spans, no_values)
        return self.opened

    def _check_aligned(self, part: MDSReader, first: Any, part_ids: Any) -> None:
        different = np.flatnonzero(first != part_ids)
        if len(different):
            raise CorruptError(
                f"{part.raw_data.basename}: sample {different[0]} is about another document than "
                f"in {self.parts[0].raw_data.basename}"
            )

    def get_sample_data(self, idx: int) -> bytes:
        """Raise: samples of joined shards are read from `open`."""
        raise NotImplementedError

    def decode_sample(self, data: bytes) -> dict[str, Any]:
        """Raise: samples of joined shards are read from `open`."""
        raise NotImplementedError


class FamilyStream(Stream):  # type: ignore[misc]
    """The shards of a plan, copied from the store into a local folder with every byte checked."""

    def __init__(
        self,
        root: str,
        shards: Sequence[LogicalShard],
        local: str,
        *,
        retries: int,
        timeout: float,
    ) -> None:
        """Set where the shards are and where they are copied to.

        Args:
            root: root of the store: a folder or an address such as `s3://bucket/prefix`.
            shards: shards that are read together.
            local: folder that only this train run, on this snapshot, uses.
            retries: attempts per download.
            timeout: seconds per download.
        """
        # No remote for streaming itself: it would guard `local` by shared memory, which a killed
        # job leaves behind. The lock of `shard_cache.LocalFolder` ends with its process.
        super().__init__(local=local, download_retry=retries, download_timeout=timeout)
        self._root, self._shards = root, tuple(shards)
        self._external: dict[str, str] = {}

    def apply_default(self, default: dict[str, Any]) -> None:
        """Apply streaming's defaults, except that compressed files are deleted."""
        super().apply_default(default)
        self.safe_keep_zip = False

    def get_shards(self, world: World, allow_unsafe_types: bool) -> list[Reader]:
        """Return the plan's shards as readers; the local leader writes the folder's index.json."""
        entries = self._entries()
        if world.is_local_leader:
            index = orjson.dumps({"version": 2, "shards": [parts[0] for parts in entries]})
            atomic_write(
                Path(self.local, INDEX), lambda partial: partial.write_bytes(index), durable=False
            )
        readers: list[Reader] = []
        for parts, logical in zip(entries, self._shards, strict=True):
            files = [MDSReader.from_json(self.local, "", entry) for entry in parts]
            adopted_text = [info.text_column if info.is_external else None for info, _ in logical]
            readers.append(FamilyReader(files, [columns for _, columns in logical], adopted_text))
            readers[-1].validate(allow_unsafe_types)
        return readers

    def _entries(self) -> list[list[dict[str, Any]]]:
        """Return the index entries of all parts, by their names in the local folder."""
        seen: Counter[str] = Counter()
        entries = []
        for logical in self._shards:
            entries.append([index_entry(info, seen[info.path]) for info, _ in logical])
            for entry, (info, _) in zip(entries[-1], logical, strict=True):
                if info.is_external:
                    self._external[_stored(entry)] = info.path
                elif seen[info.path]:
                    self._external[_stored(entry)] = f"{self._root.rstrip('/')}/{info.path}"
                seen[info.path] += 1
        return entries

    def get_index_size(self) -> int:
        """Return 0: the index does not count for the cache limit."""
        return 0

    def prepare_shard(self, shard: FamilyReader) -> int:
        """Copy the files of one logical shard here; return the change in cache usage, in bytes.

        Raises:
            StoreError: a file is missing or cannot be downloaded.
            CorruptError: a file was changed.
        """
        delta = 0
        for part in shard.parts:
            delta += self._copy_file(part.raw_data, part.zip_data, part.compression)
        return delta

    def _copy_file(
        self, raw: FileInfo, compressed: FileInfo | None, compression: str | None
    ) -> int:
        target = Path(self.local, raw.basename)
        if target.is_file():
            return 0
        stored = compressed or raw
        data = self._read_source(stored)
        self._check(stored, data)
        if compressed is None and not self._is_remote(raw) and raw.basename not in self._external:
            # An uncompressed file on this machine: link to it instead of copying it.
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.symlink_to(Path(self._address(raw)).absolute())
            return int(raw.bytes)
        if compressed is not None:
            try:
                data = decompress(compression, data)
            except Exception as error:
                raise CorruptError(f"{self._address(stored)}: {error}. {_REMEDY}") from None
        if len(data) != raw.bytes:
            raise CorruptError(
                f"{self._address(stored)}: {len(data)} bytes unpacked instead of {raw.bytes}. "
                f"{_REMEDY}"
            )
        atomic_write(target, lambda partial: partial.write_bytes(data), durable=False)
        return int(raw.bytes)

    def _read_source(self, file: FileInfo) -> bytes:
        if self._is_remote(file):
            return self._download(file)
        try:
            return Path(self._address(file)).read_bytes()
        except FileNotFoundError:
            raise StoreError(f"{self._address(file)}: missing. {_REMEDY}") from None
        except OSError as error:
            raise StoreError(f"{self._address(file)}: {error}. {_REMEDY}") from None

    def _download(self, file: FileInfo) -> bytes:
        target = Path(self.local, f"{file.basename}.{os.getpid()}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        source = self._address(file)
        downloader = _downloader(source)

        def download_once() -> None:
            downloader.download(source, str(target), self.download_timeout)

        try:
            retry(clean_up_fn=downloader.clean_up, num_attempts=self.download_retry)(
                download_once
            )()
            return target.read_bytes()
        except Exception as error:
            raise StoreError(f"{source}: cannot be downloaded: {error!r}. {_REMEDY}") from error
        finally:
            target.unlink(missing_ok=True)

    def _check(self, file: FileInfo, data: bytes) -> None:
        if len(data) != file.bytes:
            raise CorruptError(
                f"{self._address(file)}: {len(data)} bytes instead of {file.bytes}. {_REMEDY}"
            )
        for algorithm, expected in file.hashes.items():
            if get_hash(algorithm, data) != expected:
                raise CorruptError(f"{self._address(file)}: its {algorithm} is wrong. {_REMEDY}")

    def _address(self, file: FileInfo) -> str:
        """Return the path or address of a file."""
        external = self._external.get(file.basename)
        return external or f"{self._root.rstrip('/')}/{file.basename}"

    def _is_remote(self, file: FileInfo) -> bool:
        return "://" in self._address(file)


# Clients are not safe to share between threads or to send to other processes.
_downloaders = threading.local()


def _downloader(address: str) -> CloudDownloader:
    by_scheme = _downloaders.__dict__.setdefault("by_scheme", {})
    scheme = address.partition("://")[0]
    if scheme not in by_scheme:
        by_scheme[scheme] = CloudDownloader.get(address)
    return by_scheme[scheme]
