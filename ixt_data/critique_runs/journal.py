"""Journals: critiques on the worker's own disk from their arrival to the commit.

`<folder>/<critic id>/<hash of the unit>.jsonl` contains a header and one line per critique. Each
line is written to the operating system at once, so a killed worker loses none, and fsynced in small
groups. The worker that has the file open has it locked. A worker may get the unit's lease while
another one, for instance a hung one, has the file; it continues with a copy at the same path.

Only a last line without its end is cut off: a crash truncated it, and its critique was never
acknowledged. A complete line that this version cannot read is kept: it may be a paid response in
the form of another version. Its journal is kept under `.unreadable` when its unit is
published, and a journal with another header at once; garbage collection deletes them by age.
"""

import fcntl
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import orjson

from ixt_data.records import OK, Critique, Span
from ixt_data.storage import LocalStorage
from ixt_data.store import Store

_log = logging.getLogger(__name__)
_CRITIQUE_FIELDS = {field.name for field in fields(Critique)}
_SPAN_FIELDS = {field.name for field in fields(Span)}

IsPending = Callable[[str, str | None], bool]
JOURNAL_FORMAT = 1
FSYNC_CRITIQUES = 256
FSYNC_SECONDS = 0.2
"""Critiques, and seconds, after which a journal is fsynced."""


def journal_folder(store: Store) -> Path:
    """Return the folder of a store's journals.

    It is in a local store's root, else in the user's state folder; `IXT_STATE` names another one.
    """
    if isinstance(store.storage, LocalStorage):
        return store.storage.path / "_journal"
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    folder = Path(os.environ.get("IXT_STATE") or Path(state) / "ixt")
    return folder / "journal" / _hash(store.root)


class Journal:
    """The critiques of one unit so far. Use it in a `with` block, which does not delete the file.

    Args:
        folder: see `journal_folder`.
        critic: the critic's id.
        unit: the unit's name.
        replaced_txn: transaction that published the unit before, if this is a retry.

    Attributes:
        critiques: by doc_id, as read from the file when it was opened.
    """

    def __init__(
        self, folder: Path, critic: str, unit: str, replaced_txn: str | None = None
    ) -> None:
        self.path = folder / critic / f"{_hash(f'{unit} {replaced_txn}')}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _open_locked(self.path)
        self._unsynced, self._synced = 0, time.monotonic()
        self.critiques: dict[bytes, Critique] = {}
        self._unreadable_lines = 0
        header = {"format": JOURNAL_FORMAT, "unit": unit, "replaced_txn": replaced_txn}
        end = self._replay(orjson.dumps(header) + b"\n")
        os.ftruncate(self._file, end)
        os.lseek(self._file, end, os.SEEK_SET)
        if not end:
            self._write(orjson.dumps(header) + b"\n")

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        os.fsync(self._file)
        os.close(self._file)

    def append(self, critique: Critique) -> None:
        """Append a critique; a worker that is killed afterwards does not lose it."""
        self._write(encode(critique) + b"\n")
        self._unsynced += 1
        now = time.monotonic()
        if self._unsynced >= FSYNC_CRITIQUES or now - self._synced >= FSYNC_SECONDS:
            os.fdatasync(self._file)
            self._unsynced, self._synced = 0, now

    def remove(self) -> None:
        """Delete the file after its critiques are published, if this worker still owns it.

        A file with lines that this version cannot read is renamed instead.
        """
        if not _is_same_file(self.path, self._file):
            return
        if self._unreadable_lines:
            self.path.replace(_unreadable_path(self.path))
        else:
            self.path.unlink(missing_ok=True)

    def _write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._file, line) :]

    def _replay(self, header: bytes) -> int:
        """Read the complete lines; return the offset of their end."""
        data = self.path.read_bytes()
        end = data.rfind(b"\n") + 1
        if not data.startswith(header):
            if end:
                kept = _unreadable_path(self.path)
                kept.write_bytes(data)
                _log.warning("%s: the journal has another header; kept as %s", self.path, kept)
            return 0
        for number, line in enumerate(data[len(header) : end].split(b"\n")[:-1], 2):
            try:
                critique = decode(line)
            except (orjson.JSONDecodeError, TypeError, ValueError, KeyError) as error:
                self._unreadable_lines += 1
                _log.warning("%s line %d: kept, but not readable: %r", self.path, number, error)
                continue
            self.critiques[critique.doc_id] = critique
        return end


def abandoned_journals(folder: Path, is_pending: IsPending, before: float) -> Iterator[Path]:
    """Yield journals that no worker has open and no pending unit needs, each locked for the moment.

    Args:
        folder: see `journal_folder`.
        is_pending: returns whether a unit is still to be published, given its name and the
            transaction that it replaces.
        before: Unix seconds; critiques of a pending unit are kept if the last one is newer.
    """
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            header = _parse_header(file.readline())
            if path.stat().st_mtime < before or (header is not None and not is_pending(*header)):
                yield path


@dataclass(frozen=True, slots=True)
class UnitProgress:
    """Progress of a unit with critiques in a journal.

    Attributes:
        critic: the critic's id.
        unit: the unit's name.
        critiques: number of critiques so far.
        ok: how many of them are `ok`.
        modified: time of the last one, in Unix seconds.
    """

    critic: str
    unit: str
    critiques: int
    ok: int
    modified: float


def units_in_progress(folder: Path) -> Iterator[UnitProgress]:
    """Yield the units with unpublished critiques, of all critics."""
    known = _progress.setdefault(folder, {})
    for path in set(known) - (paths := set(folder.glob("*/*.jsonl"))):
        known.pop(path, None)
    for path in sorted(paths):
        # A worker may publish the unit and remove the file at any moment.
        with suppress(FileNotFoundError), path.open("rb") as file:
            status = os.fstat(file.fileno())
            counts = known.get(path)
            if counts is None or counts.inode != status.st_ino or counts.end > status.st_size:
                counts = known[path] = _LineCounts(status.st_ino)
            file.seek(counts.end)
            counts.add(file.read())
            if counts.unit is not None:
                n_lines, n_ok = counts.lines, counts.ok
                yield UnitProgress(path.parent.name, counts.unit, n_lines, n_ok, status.st_mtime)


@dataclass(slots=True)
class _LineCounts:
    """Counts of a journal up to an offset: a poll reads only what was appended since."""

    inode: int
    end: int = 0
    unit: str | None = None
    lines: int = 0
    ok: int = 0

    def add(self, data: bytes) -> None:
        """Count the complete lines of data that follow `end`."""
        data = data[: data.rfind(b"\n") + 1]
        start = 0
        if not self.end and data:
            start = data.find(b"\n") + 1
            header = _parse_header(data[:start])
            self.unit = header[0] if header is not None else None
        self.lines += data.count(b"\n", start)
        self.ok += data.count(f'"status":"{OK}"'.encode(), start)
        self.end += len(data)


_progress: dict[Path, dict[Path, _LineCounts]] = {}


def _unreadable_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}-{uuid.uuid4().hex[:8]}.unreadable")


def _parse_header(line: bytes) -> tuple[str, str | None] | None:
    """Return a journal's unit and replaced transaction, None if the header is truncated."""
    try:
        header = orjson.loads(line)
        return header["unit"], header["replaced_txn"]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return None


def _open_locked(path: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return _replace_with_copy(path)
        # Its former owner may have removed it between the two calls.
        if _is_same_file(path, file):
            return file
        os.close(file)


def _replace_with_copy(path: Path) -> int:
    """Replace a file that another worker has locked by a copy, and lock the copy."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with suppress(FileNotFoundError):
        temporary.write_bytes(path.read_bytes())
    file = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
    fcntl.flock(file, fcntl.LOCK_EX)
    temporary.replace(path)
    return file


def _is_same_file(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def encode(critique: Critique) -> bytes:
    """Return one line of a journal."""
    return orjson.dumps(critique, default=bytes.hex)


def decode(line: bytes) -> Critique:
    """Return the critique that `encode` wrote; fields that this version does not know are ignored.

    Raises:
        ValueError, TypeError, KeyError: the line is not a critique.
    """
    record: dict[str, Any] = orjson.loads(line)
    known = {name: value for name, value in record.items() if name in _CRITIQUE_FIELDS}
    known["doc_id"] = bytes.fromhex(record["doc_id"])
    known["spans"] = tuple(
        Span(**{name: value for name, value in span.items() if name in _SPAN_FIELDS})
        for span in record.get("spans", ())
    )
    known["flags"] = tuple(record.get("flags", ()))
    for name in ("score", "expected", "entropy"):
        if not isinstance(value := known.get(name), float | int | None):
            raise TypeError(f"{name} {value!r} is not a number")
    for name in ("status", "critique"):
        if not isinstance(value := known.get(name, ""), str):
            raise TypeError(f"{name} {value!r} is not a text")
    return Critique(**known)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
