"""Journals: answers of slow critics, on the worker's own disk from their arrival to the commit.

`<folder>/<critic id>/<hash of the unit>.jsonl` holds a head and one line for each answer. A line is
handed to the system at once, so that a killed worker loses none, and brought to the disk in small
groups. Whoever has the file open has it locked. A worker that was given the unit's lease while
another one has the file, as a frozen one does, goes on with a copy in its place.
"""

import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from ixt_data.records import OK, Critique, Span
from ixt_data.storage import LocalStorage
from ixt_data.store import Store

IsOpen = Callable[[str, str | None], bool]
GROUP = 256
GROUP_SECONDS = 0.2
"""Answers, and seconds, after which a journal is brought to the disk."""


def journal_folder(store: Store) -> Path:
    """Where a store's journals are: in a local store's root, else in the user's state folder.

    `IXT_STATE` names another state folder.
    """
    if isinstance(store.storage, LocalStorage):
        return store.storage.path / "_journal"
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    folder = Path(os.environ.get("IXT_STATE") or Path(state) / "ixt")
    return folder / "journal" / _hash(store.root)


class Journal:
    """The answers of one unit so far. Use it in a `with`: leaving it keeps the file.

    Args:
        folder: see `journal_folder`.
        critic: the critic's id.
        unit: the unit's name.
        replaces: the transaction that published the unit before, if it is done again.

    Attributes:
        answers: by document, as read when it was opened.
    """

    def __init__(self, folder: Path, critic: str, unit: str, replaces: str | None = None) -> None:
        self.path = folder / critic / f"{_hash(f'{unit} {replaces}')}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _locked(self.path)
        self._waiting, self._synced = 0, time.monotonic()
        self.answers: dict[bytes, Critique] = {}
        head = orjson.dumps({"unit": unit, "replaces": replaces}) + b"\n"
        end = self._replay(head)
        os.ftruncate(self._file, end)
        os.lseek(self._file, end, os.SEEK_SET)
        if not end:
            self._write(head)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.fsync(self._file)
        os.close(self._file)

    def append(self, critique: Critique) -> None:
        """Adds an answer; a worker that is killed after this still has it."""
        self._write(encode(critique) + b"\n")
        self._waiting += 1
        now = time.monotonic()
        if self._waiting >= GROUP or now - self._synced >= GROUP_SECONDS:
            os.fdatasync(self._file)
            self._waiting, self._synced = 0, now

    def remove(self) -> None:
        """Deletes the file, once its answers are published, if it is still this worker's."""
        if _is_at(self.path, self._file):
            self.path.unlink(missing_ok=True)

    def _write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._file, line) :]

    def _replay(self, head: bytes) -> int:
        """Reads what is whole; returns where that ends."""
        data = self.path.read_bytes()
        if not data.startswith(head):
            return 0
        end = len(head)
        while (stop := data.find(b"\n", end)) >= 0:
            try:
                critique = decode(data[end:stop])
            except (orjson.JSONDecodeError, TypeError, ValueError, KeyError):
                # Torn by a crash of the machine: what follows it was never acknowledged.
                break
            self.answers[critique.doc_id] = critique
            end = stop + 1
        return end


def abandoned(folder: Path, is_open: IsOpen, before: float) -> Iterator[Path]:
    """Journals that nobody has open and whose answers nobody waits for, each locked for the moment.

    Args:
        folder: see `journal_folder`.
        is_open: whether a unit is still to be published, in place of what a transaction published.
        before: answers of such a unit are kept if the last one came after this, in Unix seconds.
    """
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            head = _head(file.readline())
            if path.stat().st_mtime < before or (head is not None and not is_open(*head)):
                yield path


@dataclass(frozen=True, slots=True)
class UnitProgress:
    """How far a unit is whose answers are in a journal.

    Attributes:
        critic: the critic's id.
        unit: the unit's name.
        answers: so far.
        ok: of these.
        modified: when the last one came, in Unix seconds.
    """

    critic: str
    unit: str
    answers: int
    ok: int
    modified: float


def in_progress(folder: Path) -> Iterator[UnitProgress]:
    """The units with answers that are not yet published, of all critics."""
    for path in sorted(folder.glob("*/*.jsonl")):
        # Published and removed just now, perhaps.
        with suppress(FileNotFoundError):
            data, modified = path.read_bytes(), path.stat().st_mtime
            head = _head(data[: data.find(b"\n") + 1])
            if head is not None:
                ok = data.count(f'"status":"{OK}"'.encode())
                yield UnitProgress(path.parent.name, head[0], data.count(b"\n") - 1, ok, modified)


def _head(line: bytes) -> tuple[str, str | None] | None:
    """The unit that a journal is of, and what it replaces; None if that is torn."""
    try:
        head = orjson.loads(line)
        return head["unit"], head["replaces"]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return None


def _locked(path: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return _copied(path)
        # Whoever had it may have removed it between the two calls.
        if _is_at(path, file):
            return file
        os.close(file)


def _copied(path: Path) -> int:
    """A copy of a file, locked, in the place of the one that another worker has."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with suppress(FileNotFoundError):
        temporary.write_bytes(path.read_bytes())
    file = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
    fcntl.flock(file, fcntl.LOCK_EX)
    temporary.replace(path)
    return file


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def encode(critique: Critique) -> bytes:
    """One line of a journal."""
    return orjson.dumps(critique, default=bytes.hex)


def decode(line: bytes) -> Critique:
    """The critique that `encode` wrote."""
    record: dict[str, Any] = orjson.loads(line)
    record["doc_id"] = bytes.fromhex(record["doc_id"])
    record["spans"] = tuple(Span(**span) for span in record["spans"])
    record["flags"] = tuple(record["flags"])
    return Critique(**record)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
