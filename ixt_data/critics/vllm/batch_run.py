"""Batches at a vendor, from documents to critiques: submitted, polled, downloaded, read.

A batch is in the journal before each step, and until the caller has taken all of its critiques. So
a process that is killed loses no batch, and submits none twice.
"""

import asyncio
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from ixt_data.console import format_count
from ixt_data.critics.vllm.batch_api import (
    ENDED,
    MAX_BATCH_BYTES,
    Batch,
    BatchApi,
    read_replies,
)
from ixt_data.critics.vllm.batch_journal import BatchJournal, BatchRecord
from ixt_data.critics.vllm.batch_judge import BatchJudge
from ixt_data.critics.vllm.failures import (
    EngineCrashed,
    FailureStatus,
    InvalidResponse,
    Overloaded,
)
from ixt_data.critics.vllm.spending import (
    BudgetSpent,
    Reservation,
)
from ixt_data.errors import CriticError
from ixt_data.records import Critique, Document

_log = logging.getLogger(__name__)

MAX_OPEN_BATCHES = 4
"""Batches at the vendor at the same time; their documents are in memory."""

Waiting = tuple[Document, int]
"""A document and the number of its attempt, from 0."""


@dataclass
class _OpenBatch:
    """A batch whose critiques this run waits for.

    Attributes:
        record: its state.
        documents: those that the run asked for, with their attempts.
        reservations: of the cost, by doc_id; empty for a batch of an earlier command.
        resources: the reservations, to be settled.
    """

    record: BatchRecord
    documents: dict[bytes, Waiting] = field(default_factory=dict)
    reservations: dict[bytes, Reservation] = field(default_factory=dict)
    resources: AsyncExitStack = field(default_factory=AsyncExitStack)


class BatchRun:
    """Batches of one stream of documents, from their submission to the critiques.

    Args:
        source: the documents.
        judge: builds requests, reads responses.
        api: the batch API of the server.
        journal: the batches so far.
        batch_requests: documents per batch.
        poll_seconds: time between two looks at the batches.
    """

    def __init__(
        self,
        source: Iterator[Document],
        judge: BatchJudge,
        api: BatchApi,
        journal: BatchJournal,
        batch_requests: int,
        poll_seconds: float,
    ) -> None:
        self._source, self._judge = source, judge
        self._api, self._journal = api, journal
        self._size, self._poll_seconds = batch_requests, poll_seconds
        self._queue: list[Waiting] = []
        self._open: list[_OpenBatch] = []
        self._ended: list[BatchRecord] = []
        self._failure: CriticError | None = None
        self._known = dict[bytes, tuple[BatchRecord, int]]()
        for record in journal.load():
            if record.step == "written":
                # It was never sent: its documents are submitted within the budget of this command.
                journal.remove(record)
                continue
            for doc_id, attempt in record.requests:
                self._known[bytes.fromhex(doc_id)] = record, attempt
        self._is_exhausted = False

    @property
    def is_done(self) -> bool:
        """True if every document has a critique."""
        is_waiting = self._queue or self._open or self._failure is not None
        return self._is_exhausted and not is_waiting

    async def advance(self) -> list[Critique]:
        """Submit what fits, and return the critiques of batches that have ended.

        Raises:
            CriticError: every further document would fail; what has ended before was returned.
        """
        if self._failure is not None:
            raise self._failure
        found = await self._submit_all()
        for batch in list(self._open):
            if (ended := await self._advance_batch(batch)) is not None:
                found += ended
        if not found and self._open and self._failure is None:
            await asyncio.sleep(self._poll_seconds)
        return found

    def forget_ended(self) -> None:
        """Delete the journals of batches whose critiques were taken."""
        for record in self._ended:
            self._journal.remove(record)
        self._ended.clear()

    async def close(self) -> None:
        """Settle the reservations of open batches."""
        for batch in self._open:
            await batch.resources.aclose()

    async def _submit_all(self) -> list[Critique]:
        """Take documents and submit batches while there is room; return immediate failures."""
        failures: list[Critique] = []
        while self._queue and len(self._open) < MAX_OPEN_BATCHES:
            waiting, self._queue = self._queue[: self._size], self._queue[self._size :]
            if not await self._submit(waiting, failures):
                break
        return failures

    def take_documents(self) -> None:
        """Take documents until all batches are full; those of known batches wait for these."""
        room = self._size * (MAX_OPEN_BATCHES - len(self._open))
        while not self._is_exhausted and len(self._queue) < room:
            document = next(self._source, None)
            if document is None:
                self._is_exhausted = True
            elif (known := self._known.get(document.doc_id)) is not None:
                record, attempt = known
                batch = next((one for one in self._open if one.record.key == record.key), None)
                if batch is None:
                    batch = _OpenBatch(record)
                    self._open.append(batch)
                batch.documents[document.doc_id] = document, attempt
            else:
                self._queue.append((document, 0))

    async def _submit(self, waiting: list[Waiting], failures: list[Critique]) -> bool:
        """Submit a batch; return False if the budget has no room for a whole one."""
        batch = _OpenBatch(BatchRecord(uuid.uuid4().hex, ()))
        lines: list[bytes] = []
        size, rest = 0, list[Waiting]()
        for number, (document, attempt) in enumerate(waiting):
            try:
                line = await self._request(batch, document, attempt)
            except InvalidResponse as failure:
                failures.append(_failed(document, attempt, failure))
                continue
            except BudgetSpent as error:
                rest = waiting[number:]
                if not lines and not self._open:
                    raise error from None
                break
            lines.append(line)
            batch.documents[document.doc_id] = document, attempt
            size += len(line)
            if size > MAX_BATCH_BYTES:
                rest = waiting[number + 1 :]
                break
        self._queue = rest + self._queue
        if not lines:
            return not rest
        requests = tuple((doc_id.hex(), n) for doc_id, (_, n) in batch.documents.items())
        batch.record = replace(batch.record, requests=requests)
        self._journal.add(batch.record, b"".join(lines))
        self._open.append(batch)
        return True

    async def _request(self, batch: _OpenBatch, document: Document, attempt: int) -> bytes:
        """Return the line of a document, after its cost was reserved."""
        request = await self._judge.request(document, attempt)
        expected = await batch.resources.enter_async_context(
            self._judge.spending.reserve(request.prompt_bytes, request.max_tokens, waits=False)
        )
        expected.cancel()
        batch.reservations[document.doc_id] = expected
        return request.line

    async def _advance_batch(self, batch: _OpenBatch) -> list[Critique] | None:
        """Do the next steps of a batch; return its critiques if it has ended."""
        record = batch.record
        if record.step == "creating":
            # The last process may have been killed between the request and its response.
            found = await self._api.find(record.key)
            if found is None:
                # It does not exist, so its documents are submitted again, within today's budget.
                self._open.remove(batch)
                self._journal.remove(record)
                self._forget(batch)
                self._queue = [*batch.documents.values(), *self._queue]
                return []
            record = self._save(batch, step="submitted", batch_id=found.id)
        if record.step == "written":
            file_id = await self._api.upload(self._journal.requests_path(record))
            record = self._save(batch, step="creating", file_id=file_id)
            created = await self._api.create(file_id, record.key)
            record = self._save(batch, step="submitted", batch_id=created.id)
            documents = format_count(len(record.requests), "document")
            _log.warning("submitted %s with %s; this may take a day", created.id, documents)
            for expected in batch.reservations.values():
                # From here on, a response that is lost may have been paid.
                expected.paced, expected.used = expected.tokens_in, None
        if record.step == "submitted":
            state = await self._api.status(record.batch_id or "")
            if state.status not in ENDED:
                return None
            if not await self._download(batch, state):
                return []
        return await self._read(batch)

    def _save(self, batch: _OpenBatch, **changes: Any) -> BatchRecord:
        batch.record = replace(batch.record, **changes)
        self._journal.save(batch.record)
        return batch.record

    async def _download(self, batch: _OpenBatch, state: Batch) -> bool:
        """Store the responses of an ended batch; return False if it has none at all."""
        files = [one for one in (state.output_file, state.error_file) if one]
        if state.status in ("failed", "cancelled"):
            self._failure = self._failure or CriticError(
                f"batch {state.id} {'has' if state.status == 'failed' else 'was'} {state.status}"
                f"{': ' if state.errors else ''}{state.errors}. The same command submits its "
                "documents again"
            )
        if not files and self._failure is not None:
            # It was never run, so it costs nothing.
            for expected in batch.reservations.values():
                expected.cancel()
            await batch.resources.aclose()
            self._open.remove(batch)
            self._journal.remove(batch.record)
            return False
        temporary = self._journal.responses_path(batch.record).with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        temporary.touch()
        for file_id in files:
            await self._api.download(file_id, temporary)
            with temporary.open("ab") as file:
                file.write(b"\n")
                os.fsync(file.fileno())
        batch.record = self._journal.mark_downloaded(batch.record, temporary)
        return True

    async def _read(self, batch: _OpenBatch) -> list[Critique]:
        """Return the critiques of a downloaded batch; failures that may not last are queued."""
        replies = read_replies(self._journal.responses_path(batch.record), batch.documents)
        critiques: list[Critique] = []
        for doc_id, (document, attempt) in batch.documents.items():
            reply = replies.get(doc_id) or InvalidResponse(
                FailureStatus.timeout, "the batch ended without a response"
            )
            expected = batch.reservations.get(doc_id)
            try:
                critiques.append(await self._judge.critique(document, attempt, reply, expected))
            except CriticError as error:
                # The other responses are kept; a later command submits this document again.
                self._failure = self._failure or error
            except (Overloaded, EngineCrashed) as error:
                self._retry(document, attempt, critiques, FailureStatus.server_crashed, str(error))
            except InvalidResponse as failure:
                if self._failure is not None and doc_id not in replies:
                    continue
                self._retry(document, attempt, critiques, failure.status, str(failure))
        await batch.resources.aclose()
        self._open.remove(batch)
        self._ended.append(batch.record)
        self._forget(batch)
        return critiques

    def _forget(self, batch: _OpenBatch) -> None:
        for doc_id in batch.documents:
            self._known.pop(doc_id, None)

    def _retry(
        self,
        document: Document,
        attempt: int,
        critiques: list[Critique],
        status: FailureStatus,
        message: str,
    ) -> None:
        """Queue a document again, or give up."""
        failure = InvalidResponse(status, message)
        is_last = attempt + 1 >= self._judge.attempts
        if status is FailureStatus.degenerate and attempt > 0:
            is_last = True
        if is_last or not self._judge.requester.may_succeed_later(failure):
            critiques.append(_failed(document, attempt, failure))
        else:
            self._judge.usage["retries"] += 1
            self._queue.append((document, attempt + 1))


def _failed(document: Document, attempt: int, failure: InvalidResponse) -> Critique:
    return Critique(document.doc_id, failure.status.value, error=str(failure), attempts=attempt + 1)
