"""Folders: a folder of texts with one document per file, or the files of a dataset."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ixt_data.errors import ConfigError, IxtError
from ixt_data.ingestion.fields import Fields, RejectedRecord, excerpt
from ixt_data.ingestion.formats import TEXT_FORMAT, Reader, readers
from ixt_data.ingestion.lake_tables import lake_files
from ixt_data.ingestion.remarks import Remarks
from ixt_data.ingestion.source_files import SourceFile, printable, suffix_of
from ixt_data.ingestion.text_files import read_text
from ixt_data.records import Document

SKIPPED_FOLDERS = frozenset({"__pycache__"})
# Files that describe a dataset and do not contain its records.
# Spark and Hadoop write files such as `_SUCCESS` beside them.
_DESCRIPTIONS = re.compile(r"(readme|license|licence)(\..*)?|.*\.md|dataset_infos?\.json|_.*", re.I)
_SPLITS = re.compile(r"(train|training|test|testing|validation|valid|val|dev|eval)(?![a-z])", re.I)
_SHARD = re.compile(r"(?P<split>\w[\w.]*)-\d{5}-of-\d{5}")


class FolderInput:
    """A folder of texts: one document per file, recursively, in the order of the names.

    The reader skips hidden files and folders and `__pycache__`. It does not follow symbolic links:
    it reads a target inside the folder at its own path, and rejects a link to the outside.

    Attributes:
        size: bytes of all files.
        consumed: bytes of the files read so far.
    """

    def __init__(self, path: Path, format: str | None, max_bytes: int) -> None:
        """Find the files.

        Args:
            path: the folder.
            format: the format that the user named, whose files are one document each; without it,
                the files are plain text, and files of records are rejected.
            max_bytes: most bytes of a file.
        """
        self.path = path
        self._format, self._max_bytes = format, max_bytes
        self.size = sum(file[1] for file in walk(path) if not isinstance(file, RejectedRecord))
        self.consumed = 0

    @property
    def identity(self) -> list[Any]:
        """Everything that the records depend on."""
        files = [file.path for file in walk(self.path) if not isinstance(file, RejectedRecord)]
        changed = [[printable(path), path.stat().st_mtime_ns] for path in files]
        return [self._format, self._max_bytes, printable(self.path), changed]

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per file."""
        for portion in self.portions():
            yield from portion
            self.consumed = portion.consumed

    def portions(self) -> Iterator["FilesPortion"]:
        """Yield the files in portions, which several processes can read."""
        source = printable(self.path.resolve().name or str(self.path))
        own = (self.path, source, self._format, self._max_bytes)
        files: list[FolderFile | RejectedRecord] = []
        size = consumed = 0
        limit = FILES if self._format in (None, TEXT_FORMAT) else SLOW_FILES
        for file in walk(self.path):
            if len(files) >= limit or size >= FILE_BYTES:
                yield FilesPortion(*own, files, size, consumed)
                files, size = [], 0
            files.append(file)
            size += 0 if isinstance(file, RejectedRecord) else file.size
            consumed += 0 if isinstance(file, RejectedRecord) else file.size
        yield FilesPortion(*own, files, size, consumed)


# A portion of a folder ends at the first limit: files, or bytes of them.
FILES = 512
SLOW_FILES = 32
FILE_BYTES = 4 << 20


class FolderFile(NamedTuple):
    """One file of a folder: its path, and its size in bytes."""

    path: Path
    size: int


@dataclass
class FilesPortion:
    """Consecutive files of a folder of texts, a `Portion` of it.

    Attributes:
        folder: the folder.
        source: the source of the documents of plain text.
        format, max_bytes: see `FolderInput`.
        files: the files, and what is rejected.
        size: bytes of the files.
        consumed: see `Portion`.
    """

    folder: Path
    source: str
    format: str | None
    max_bytes: int
    files: list[FolderFile | RejectedRecord]
    size: int
    consumed: int
    movable: bool = field(default=True, init=False)
    remarks: Remarks = field(default_factory=Remarks, init=False)

    @property
    def slow(self) -> bool:
        """Whether to read them takes longer than to compress them: to extract text does."""
        return self.format not in (None, TEXT_FORMAT)

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per file."""
        known = readers()
        rejected = () if self.format else record_suffixes()
        for file in self.files:
            if isinstance(file, RejectedRecord):
                yield file
            elif suffix_of(file.path.name) in rejected:
                reason = "a file of records inside a folder of texts: pass it as a separate input"
                yield RejectedRecord(printable(file.path), 0, reason)
            else:
                yield from self._read(file.path, known[self.format or TEXT_FORMAT])

    def _read(self, path: Path, reader: Reader) -> Iterator[Document | RejectedRecord]:
        relative = printable(path.relative_to(self.folder).as_posix())
        try:
            source = SourceFile(path)
            if not self.slow:
                yield read_text(
                    source, source=self.source, source_id=relative, limit=self.max_bytes
                )
                return
            source.name = relative
            yield from reader.open(source, Fields(max_bytes=self.max_bytes))
        except OSError as error:
            yield RejectedRecord(printable(path), 0, f"cannot be read: {error.strerror}")
        except IxtError as error:
            yield RejectedRecord(printable(path), 0, str(error))


class DatasetFile(NamedTuple):
    """One file of a dataset, and the name of its split; None without splits."""

    path: Path
    split: str | None


def record_suffixes() -> tuple[str, ...]:
    """Return the suffixes of all formats whose files contain records."""
    return tuple(s for r in readers().values() if r.records for s in r.suffixes)


def dataset_files(folder: Path, format: str | None = None) -> list[DatasetFile] | None:
    """Return the files of a dataset in order; None if the folder contains texts.

    A dataset is a folder that `datasets` saved (`save_to_disk`), or one whose files all contain
    records, apart from hidden files, READMEs, licences and descriptions, as on the Hugging Face
    hub. With a format, it is the files with the suffixes of that format. Of a Delta table it is the
    files of its newest version.

    Raises:
        ConfigError: the folder has no file of the format, a saved dataset is damaged, or a table
            of a lake cannot be read file by file.
    """
    if (table := lake_files(folder)) is not None:
        return [DatasetFile(path, None) for path in table]
    if (folder / "dataset_dict.json").is_file():
        return [DatasetFile(p, split) for split in _splits(folder) for p in _saved(folder / split)]
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return [DatasetFile(path, None) for path in _saved(folder)]
    files = [file for file in walk(folder) if not isinstance(file, RejectedRecord)]
    if format is not None:
        suffixes = readers()[format].suffixes
        found = [file.path for file in files if suffix_of(file.path.name) in suffixes]
        if not found:
            raise ConfigError(
                f"input {printable(folder)} has no file with a name of the format {format}: "
                f"{', '.join(suffixes)}"
            )
    else:
        found = [f.path for f in files if not _DESCRIPTIONS.fullmatch(f.path.name)]
        known = record_suffixes()
        if not found or any(suffix_of(path.name) not in known for path in found):
            return None
    return [DatasetFile(path, _split_of(path.relative_to(folder))) for path in found]


def has_only_pages(folder: Path) -> bool:
    """Return whether each file of a folder is a web page, by its name."""
    names = [file.path.name for file in walk(folder) if not isinstance(file, RejectedRecord)]
    pages = readers()["html"].suffixes
    return bool(names) and all(suffix_of(name) in pages for name in names)


def _splits(folder: Path) -> list[str]:
    """Return the names of the splits of a saved dataset.

    Raises:
        ConfigError: its dataset_dict.json does not list them, or names a folder elsewhere.
    """
    found = _read_json(folder / "dataset_dict.json").get("splits")
    names: list[Any] = found if type(found) is list else [None]
    for name in names:
        if type(name) is not str or Path(name).name != name:
            shown = printable(folder / "dataset_dict.json")
            raise ConfigError(f"{shown} of a saved dataset does not list its splits")
    return names


def _saved(folder: Path) -> Iterator[Path]:
    """Yield the Arrow files of a dataset that `datasets` saved.

    Raises:
        ConfigError: its state.json names no files, or files that do not exist or are elsewhere, or
            some rows only.
    """
    state = _read_json(folder / "state.json")
    shown = printable(folder / "state.json")
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise ConfigError(
            f"{shown} selects some rows of its files, as old versions of `datasets` save it. Load "
            "and save it again with a new one"
        )
    try:
        names = [str(file["filename"]) for file in state["_data_files"]]
    except (KeyError, TypeError):
        raise ConfigError(f"{shown} of a saved dataset does not list its files") from None
    for name in names:
        if Path(name).name != name:
            raise ConfigError(f"{shown} names a file outside: {name!r}")
        if not (folder / name).is_file():
            raise ConfigError(f"{shown} names {name}, which does not exist")
        yield folder / name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ConfigError(f"{printable(path)} of a saved dataset cannot be read: {error}") from None
    if type(found) is not dict:
        raise ConfigError(f"{printable(path)} of a saved dataset is not a JSON object")
    return found


def _split_of(path: Path) -> str | None:
    """Return the split that a path names, as the hub does: `train-00000-of-00002.parquet`."""
    if match := _SHARD.match(path.name):
        return match["split"]
    for part in reversed(path.parts):
        if match := _SPLITS.match(part):
            return match[1]
    return None


def walk(folder: Path) -> Iterator[FolderFile | RejectedRecord]:
    """Yield the files of a folder, recursively, in the order of the names; or what is rejected."""
    root = folder.resolve()
    stack = _entries(folder)
    while stack:
        entry = stack.pop()
        if isinstance(entry, RejectedRecord):
            yield entry
        elif entry.name.startswith("."):
            continue
        elif entry.is_symlink():
            yield from _link(entry, root)
        elif entry.is_dir():
            if entry.name not in SKIPPED_FOLDERS:
                stack += _entries(Path(entry.path))
        else:
            yield _file(entry)


def _entries(folder: Path) -> list["os.DirEntry[str] | RejectedRecord"]:
    """Return the content of a folder, last name first."""
    try:
        with os.scandir(folder) as content:
            entries = sorted(content, key=lambda entry: entry.name, reverse=True)
    except OSError as error:
        return [RejectedRecord(printable(folder), 0, f"cannot be read: {error.strerror}")]
    return list(entries)


def _file(entry: "os.DirEntry[str]") -> FolderFile | RejectedRecord:
    shown = printable(entry.path)
    if not entry.is_file():
        return RejectedRecord(shown, 0, "not a regular file")
    try:
        return FolderFile(Path(entry.path), entry.stat().st_size)
    except OSError as error:
        return RejectedRecord(shown, 0, f"cannot be read: {error.strerror}")


def _link(entry: "os.DirEntry[str]", root: Path) -> Iterator[FolderFile | RejectedRecord]:
    target = Path(os.path.realpath(entry.path))
    if _is_hub_blob(target, root):
        yield _file(entry)
    elif not target.is_relative_to(root):
        reason = "symbolic link that leaves the folder"
        yield RejectedRecord(printable(entry.path), 0, reason, excerpt(printable(target)))


def _is_hub_blob(target: Path, root: Path) -> bool:
    """Return whether a link of the Hugging Face cache, in `snapshots`, leads to its `blobs`."""
    repositories = [above.parent for above in (root, *root.parents) if above.name == "snapshots"]
    return any(target.parent == repository / "blobs" for repository in repositories)
