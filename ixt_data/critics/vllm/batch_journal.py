"""The batches of a judge that are submitted or about to be, in files that survive a kill.

`<key>.json` has the state of a batch, `<key>.requests.jsonl` its requests, and
`<key>.responses.jsonl` what was downloaded. A state is written before the step that it names, so
that the next process knows what the last one may have done.
"""

import fcntl
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import orjson

from ixt_data.errors import CriticError
from ixt_data.storage import LocalStorage

FORMAT = 1
Step = Literal["written", "creating", "submitted", "downloaded"]


@dataclass(frozen=True)
class BatchRecord:
    """State of one batch.

    Attributes:
        key: of the submission; also in the batch's metadata at the server.
        requests: id of each document in hexadecimal, and the number of its attempt.
        step: `written`: the requests are on this disk; `creating`: a batch may exist at the
            server; `submitted`: it exists; `downloaded`: its responses are on this disk.
        file_id: of the requests at the server.
        batch_id: of the batch at the server.
    """

    key: str
    requests: tuple[tuple[str, int], ...]
    step: Step = "written"
    file_id: str | None = None
    batch_id: str | None = None


class BatchJournal:
    """The batches in a folder, which one process has at a time. Use it in a `with` block.

    Args:
        folder: made if it does not exist.

    Raises:
        CriticError: another process has it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._storage = folder, LocalStorage(folder)
        self._lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise CriticError(
                f"another process waits for batches of this judge ({folder}); wait until it ends"
            ) from None

    def __enter__(self) -> "BatchJournal":
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._lock)

    def load(self) -> list[BatchRecord]:
        """Return the batches, oldest first.

        Raises:
            CriticError: a state is not readable; it may name a paid batch, so it is not ignored.
        """
        paths = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        return [self._read(path) for path in paths]

    def _read(self, path: Path) -> BatchRecord:
        try:
            record = orjson.loads(path.read_bytes())
            if record.pop("format") != FORMAT:
                raise ValueError("another format")
            requests = tuple((str(doc_id), int(n)) for doc_id, n in record.pop("requests"))
            return BatchRecord(requests=requests, **record)
        except (ValueError, TypeError, KeyError) as error:
            raise CriticError(
                f"{path}: the state of a submitted batch is not readable ({error}). Look the "
                "batch up at the vendor, then move this file away"
            ) from None

    def add(self, record: BatchRecord, requests: bytes) -> None:
        """Write a new batch: its requests, then its state."""
        self._storage.replace(f"{record.key}.requests.jsonl", requests)
        self.save(record)

    def save(self, record: BatchRecord) -> None:
        """Write a state durably."""
        self._storage.replace(
            f"{record.key}.json", orjson.dumps({"format": FORMAT, **asdict(record)})
        )

    def requests_path(self, record: BatchRecord) -> Path:
        """Return the file with the requests of a batch."""
        return self._folder / f"{record.key}.requests.jsonl"

    def responses_path(self, record: BatchRecord) -> Path:
        """Return the file with the responses of a batch."""
        return self._folder / f"{record.key}.responses.jsonl"

    def mark_downloaded(self, record: BatchRecord, temporary: Path) -> BatchRecord:
        """Publish downloaded responses under their final name, and save the state."""
        self._storage.replace(self.responses_path(record).name, temporary.read_bytes())
        temporary.unlink()
        record = replace(record, step="downloaded")
        self.save(record)
        return record

    def remove(self, record: BatchRecord) -> None:
        """Delete a batch: its state first, so that nothing refers to missing files."""
        names = (f"{record.key}.json", f"{record.key}.requests.jsonl")
        for name in (*names, f"{record.key}.responses.jsonl"):
            (self._folder / name).unlink(missing_ok=True)
