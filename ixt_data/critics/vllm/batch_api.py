"""The batch API of OpenAI's protocol: a file of requests up, files of responses down.

A vendor runs a batch within a day, for about half the price. Documented at
https://platform.openai.com/docs/guides/batch; the limits below are from there.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ixt_data.critics.vllm.client import (
    Client,
    ConnectionBroken,
    EndpointUnreachable,
    HttpResponse,
    RequestTimeout,
)
from ixt_data.critics.vllm.failures import FailureStatus, InvalidResponse, error_of, shorten
from ixt_data.errors import CriticError

MAX_BATCH_REQUESTS = 50_000
MAX_BATCH_BYTES = 150 << 20
"""Requests and bytes of a file; the documented maximum is 200 MB."""

KEY = "ixt"
"""Name of the metadata of a batch that identifies our submission."""

ENDED = ("completed", "failed", "expired", "cancelled")
_PAGE = 100
_MAX_PAUSE_SECONDS = 60.0
_BUSY = (408, 409, 425, 429)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the server reports it.

    Attributes:
        id: its id at the server.
        key: our key of the submission.
        status: `validating`, `in_progress`, `finalizing`, or one of `ENDED`.
        output_file: id of the file with responses, None without.
        error_file: id of the file with refused or expired requests, None without.
        errors: why it failed.
    """

    id: str
    key: str
    status: str
    output_file: str | None
    error_file: str | None
    errors: str


class BatchApi:
    """Calls of the batch API, repeated while a server is busy or not reachable.

    Args:
        client: sends the requests.
        url: the server's address up to `/v1`.
        timeout: seconds per request.
        give_up_seconds: seconds without success until an error.
        first_pause: seconds before the first repetition; the pause doubles.
    """

    def __init__(
        self,
        client: Client,
        url: str,
        timeout: float,
        give_up_seconds: float,
        first_pause: float = 1.0,
    ) -> None:
        self._client, self._url, self._timeout = client, url.rstrip("/"), timeout
        self._give_up_seconds, self._first_pause = give_up_seconds, first_pause

    async def upload(self, path: Path) -> str:
        """Upload a file of requests; return its id. An upload costs nothing.

        Raises:
            CriticError: the server has no batch API, or does not take the file.
        """

        def send() -> Awaitable[HttpResponse]:
            fields = {"purpose": "batch"}
            return self._client.upload(f"{self._url}/files", fields, path, self._timeout)

        return str(_read(await self._repeat(send), "id"))

    async def create(self, file_id: str, key: str) -> Batch:
        """Create a batch, or find it where an earlier call has created it.

        A response that is lost does not create a second batch: our key is looked up first.

        Args:
            file_id: see `upload`.
            key: ours, new for each submission.
        """
        body = orjson.dumps(
            {
                "input_file_id": file_id,
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
                "metadata": {KEY: key},
            }
        )
        start, pause = time.monotonic(), self._first_pause
        while True:
            try:
                reply = await self._client.post(f"{self._url}/batches", body, self._timeout)
                if not _is_transient(reply):
                    return _batch(reply)
                reason = f"HTTP {reply.status}: {shorten(reply.body)}"
            except (ConnectionBroken, EndpointUnreachable, RequestTimeout) as error:
                reason = str(error)
            await self._wait(start, pause, reason)
            pause = min(_MAX_PAUSE_SECONDS, 2 * pause)
            if (found := await self.find(key)) is not None:
                return found

    async def find(self, key: str) -> Batch | None:
        """Return the batch of a submission, None if the server has none."""
        after = ""
        while True:
            address = f"{self._url}/batches?limit={_PAGE}{after}"
            reply = await self._repeat(lambda address=address: self._client.get(address))  # type: ignore[misc]
            listed = _read(reply, "data")
            for record in listed:
                batch = _parse(record)
                if batch.key == key:
                    return batch
            if not listed or not reply.json().get("has_more"):
                return None
            after = f"&after={listed[-1]['id']}"

    async def status(self, batch_id: str) -> Batch:
        """Return a batch as it is now."""
        address = f"{self._url}/batches/{batch_id}"
        return _batch(await self._repeat(lambda: self._client.get(address)))

    async def download(self, file_id: str, path: Path) -> None:
        """Append the content of a file at the server to a local file."""
        address = f"{self._url}/files/{file_id}/content"
        size = path.stat().st_size if path.exists() else 0

        async def fetch() -> HttpResponse:
            # An earlier try may have written a part.
            with path.open("ab") as file:
                file.truncate(size)
                return await self._client.download(address, file, self._timeout)

        reply = await self._repeat(fetch)
        if reply.status != 200:
            raise _error(reply)

    async def _repeat(self, call: Callable[[], Awaitable[HttpResponse]]) -> HttpResponse:
        """Return the first response that is not one of a busy server.

        Raises:
            CriticError: there is none for `give_up_seconds`.
        """
        start, pause = time.monotonic(), self._first_pause
        while True:
            try:
                reply = await call()
                if not _is_transient(reply):
                    return reply
                reason = f"HTTP {reply.status}: {shorten(reply.body)}"
            except (ConnectionBroken, EndpointUnreachable, RequestTimeout) as error:
                reason = str(error)
            await self._wait(start, pause, reason)
            pause = min(_MAX_PAUSE_SECONDS, 2 * pause)

    async def _wait(self, start: float, pause: float, reason: str) -> None:
        seconds = time.monotonic() - start
        if seconds + pause > self._give_up_seconds:
            raise CriticError(
                f"{self._url}: no success for {seconds:.0f} s: {reason}. Submitted batches are "
                "kept: the same command continues"
            )
        await asyncio.sleep(pause)


def _is_transient(reply: HttpResponse) -> bool:
    return reply.status in _BUSY or reply.status >= 500


def _error(reply: HttpResponse) -> CriticError:
    if reply.status in (404, 405, 501):
        return CriticError(
            f"the server has no batch API, or not this file or batch: {shorten(reply.body)}"
        )
    return CriticError(str(error_of(reply)))


def _read(reply: HttpResponse, key: str) -> Any:
    body = reply.json()
    if reply.status != 200:
        raise _error(reply)
    if not isinstance(body, dict) or key not in body:
        raise CriticError(f"not a response of a batch API: {shorten(reply.body)}")
    return body[key]


def _batch(reply: HttpResponse) -> Batch:
    _read(reply, "id")
    return _parse(reply.json())


def _parse(record: dict[str, Any]) -> Batch:
    errors = (record.get("errors") or {}).get("data") or []
    return Batch(
        str(record["id"]),
        str((record.get("metadata") or {}).get(KEY) or ""),
        str(record.get("status")),
        record.get("output_file_id"),
        record.get("error_file_id"),
        "; ".join(str(error.get("message") or error.get("code")) for error in errors[:3]),
    )


def read_replies(
    path: Path, wanted: Container[bytes]
) -> dict[bytes, HttpResponse | InvalidResponse]:
    """Return the response, or the failure, of each document in a file of responses.

    Args:
        path: lines of the files with responses and with errors.
        wanted: doc_ids to return; the first line of each counts.
    """
    replies = dict[bytes, HttpResponse | InvalidResponse]()
    with path.open("rb") as file:
        for line in filter(bytes.strip, file):
            doc_id, reply = _parse_line(line)
            if doc_id in wanted:
                replies.setdefault(doc_id, reply)
    return replies


def _parse_line(line: bytes) -> tuple[bytes, HttpResponse | InvalidResponse]:
    """Return the document and the response of one line; an unreadable one is of no document."""
    try:
        record = orjson.loads(line)
        doc_id = bytes.fromhex(str(record["custom_id"]).partition("-")[0])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return b"", InvalidResponse(FailureStatus.invalid, "an unreadable line")
    response, error = record.get("response") or {}, record.get("error") or {}
    if (response.get("status_code") or 0) >= 100:
        body = orjson.dumps(response.get("body"))
        return doc_id, HttpResponse(int(response["status_code"]), body)
    # A request that was not run has an error, or a response without a status.
    what = error.get("message") or error.get("code") or "no response"
    return doc_id, InvalidResponse(FailureStatus.timeout, f"the batch: {what}")
