"""The servers of one judge: how much each one gets, and which are set aside for now."""

import asyncio
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import orjson

from ixt_data.critics.vllm.client import (
    Client,
    ConnectionBroken,
    EndpointUnreachable,
    HttpResponse,
    RequestTimeout,
)
from ixt_data.critics.vllm.endpoint import Endpoint
from ixt_data.errors import CriticError

HEALTH_LAG = 0.5
"""Seconds after its death for which a server may still call itself healthy (measured: 0.45)."""

FROZEN = "frozen"

_WAITING = re.compile(rb"^vllm:num_requests_waiting(?:\{[^}]*\})?\s+([0-9.e+]+)", re.MULTILINE)
_GENERATED = re.compile(rb"^vllm:generation_tokens_total(?:\{[^}]*\})?\s+([0-9.e+]+)", re.MULTILINE)


class ServerDied(Exception):
    """The server died or froze while the request was under way."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long is waited for what.

    Attributes:
        request: seconds for one answer.
        frozen: seconds without a token, with requests under way, after which a server counts as
            frozen.
        nobody: seconds without any server after which the critique run stops.
        watch: seconds between looks at a server.
    """

    request: float = 600.0
    frozen: float = 120.0
    nobody: float = 900.0
    watch: float = 5.0


class Endpoints:
    """All servers of a judge.

    Args:
        urls: their addresses.
        client: speaks HTTP.
        most: requests under way at each, at most.
        patience: how long to wait.
        check: tells whether a server that answers is the right one; raises CriticError if not.
    """

    def __init__(
        self,
        urls: Sequence[str],
        client: Client,
        most: int,
        patience: Timeouts,
        check: Callable[[Endpoint], Awaitable[None]],
    ) -> None:
        self.all = [Endpoint(url, most) for url in urls]
        self._client, self._patience, self._check = client, patience, check
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._probes: dict[Endpoint, asyncio.Task[bool]] = {}
        self._watchers: list[asyncio.Task[None]] = []
        self._alone = asyncio.Lock()
        self._alive = time.monotonic()
        self.fatal: CriticError | None = None

    @property
    def window(self) -> int:
        """How many documents may be under way."""
        return max(1, sum(int(endpoint.limit) for endpoint in self.all if endpoint.up))

    def resume(self) -> None:
        """Goes on after a pause of the loop, in which nobody looked at a server."""
        self._alive = time.monotonic()

    def watch(self) -> None:
        """Begins to look after the servers, for as long as the loop runs."""
        self._watchers = [asyncio.ensure_future(self._watch(endpoint)) for endpoint in self.all]

    async def close(self) -> None:
        """Ends all tasks."""
        tasks = [*self._watchers, *self._probes.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def acquire(self) -> Endpoint:
        """A server that takes another request; waits for one.

        Raises:
            CriticError: none was there for too long, or one turned out to be wrong.
        """
        while True:
            if self.fatal is not None:
                raise self.fatal
            now = time.monotonic()
            free = [endpoint for endpoint in self.all if endpoint.free(now)]
            if free:
                best = min(free, key=lambda endpoint: endpoint.in_flight / endpoint.limit)
                best.in_flight += 1
                self._alive = now
                return best
            await self._wait(0.05)

    async def acquire_alone(self) -> Endpoint:
        """A server with nothing else under way, kept so until `release`."""
        await self._alone.acquire()
        try:
            while True:
                if self.fatal is not None:
                    raise self.fatal
                up = [endpoint for endpoint in self.all if endpoint.up]
                if up:
                    chosen = min(up, key=lambda endpoint: endpoint.in_flight)
                    chosen.reserved = True
                    try:
                        while chosen.up and (chosen.in_flight or self._rests(chosen)):
                            await self._wait(0.05)
                    finally:
                        chosen.reserved = chosen.up and not chosen.in_flight
                    if chosen.reserved:
                        chosen.in_flight += 1
                        return chosen
                await self._wait(0.05)
        except BaseException:
            self._alone.release()
            raise

    @staticmethod
    def _rests(endpoint: Endpoint) -> bool:
        return endpoint.resting(time.monotonic())

    def release(self, endpoint: Endpoint, alone: bool) -> None:
        """Gives a server back."""
        endpoint.in_flight -= 1
        if alone:
            endpoint.reserved = False
            self._alone.release()
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                break

    async def _wait(self, seconds: float) -> None:
        now, patience = time.monotonic(), self._patience.nobody
        up = [endpoint for endpoint in self.all if endpoint.up]
        if up:
            # What a full server has taken may take as long as any answer.
            patience = max(patience, self._patience.request)
        if any(not endpoint.refusing for endpoint in up):
            self._alive = now
        elif now - max(self._alive, *(one.answered_at for one in self.all)) > patience:
            states = "; ".join(f"{endpoint.url}: {endpoint.state}" for endpoint in self.all)
            raise CriticError(
                f"no server for {patience:g} s ({states}). What is done is kept: run the same "
                "command again once one is up"
            )
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        handle = asyncio.get_running_loop().call_later(seconds, _resolve, future)
        try:
            await future
        finally:
            handle.cancel()

    async def post(self, endpoint: Endpoint, path: str, body: bytes, epoch: int) -> HttpResponse:
        """One request to a server that was acquired.

        Raises:
            Died: the server died or froze meanwhile.
            Cut: the connection broke and the server lives.
            Unreachable, Late: see `Client.post`.
        """
        task = asyncio.current_task()
        assert task is not None
        endpoint.begin(task)
        start = time.monotonic()
        try:
            reply = await self._client.post(endpoint.url + path, body, self._patience.request)
            endpoint.last_answer = time.monotonic()
            return reply
        except asyncio.CancelledError:
            if endpoint.epoch == epoch:
                raise
            task.uncancel()
            raise ServerDied(endpoint.why) from None
        except EndpointUnreachable as error:
            endpoint.pause(str(error))
            raise
        except RequestTimeout as error:
            if endpoint.last_answer < start:
                endpoint.tasks.discard(task)
                endpoint.set_aside(f"{FROZEN}: {error}, to nobody", epoch)
            raise
        except ConnectionBroken as error:
            endpoint.tasks.discard(task)
            if await self.has_died(endpoint, epoch):
                raise ServerDied(str(error)) from None
            endpoint.last_answer = time.monotonic()
            raise
        finally:
            endpoint.tasks.discard(task)

    async def has_died(self, endpoint: Endpoint, epoch: int) -> bool:
        """Whether a server has died since `epoch`, by one look at it for all who ask."""
        if endpoint.epoch != epoch:
            return True
        if endpoint not in self._probes:
            self._probes[endpoint] = asyncio.ensure_future(self._examine(endpoint))
        return await asyncio.shield(self._probes[endpoint])

    async def _examine(self, endpoint: Endpoint) -> bool:
        epoch = endpoint.epoch
        try:
            await asyncio.sleep(HEALTH_LAG)
            try:
                well = (await self._client.get(f"{endpoint.root}/health")).status < 500
            except (EndpointUnreachable, ConnectionBroken, RequestTimeout):
                well = False
            if not well:
                endpoint.set_aside("its connections broke and /health fails", epoch)
            return endpoint.epoch != epoch
        finally:
            del self._probes[endpoint]

    async def _watch(self, endpoint: Endpoint) -> None:
        """Looks at a server again and again: takes it back, or sets it aside."""
        tries = 0
        while True:
            if endpoint.up:
                tries = 0
                await asyncio.sleep(self._patience.watch)
                if endpoint.up:
                    await self._look(endpoint)
                continue
            await asyncio.sleep(min(self._patience.watch, 0.2 * 2**tries))
            tries = min(tries + 1, 10)
            try:
                await self._check(endpoint)
                endpoint.welcome()
            except CriticError as error:
                self.fatal = error
                return
            except (EndpointUnreachable, ConnectionBroken, RequestTimeout) as error:
                endpoint.why = str(error)

    async def _look(self, endpoint: Endpoint) -> None:
        try:
            reply = await self._client.get(f"{endpoint.root}/metrics")
        except (EndpointUnreachable, ConnectionBroken, RequestTimeout):
            return
        # One line for each engine of a server.
        waiting, generated = _WAITING.findall(reply.body), _GENERATED.findall(reply.body)
        endpoint.queueing(sum(map(float, waiting)))
        if generated and endpoint.frozen(sum(map(float, generated)), self._patience.frozen):
            endpoint.set_aside(f"{FROZEN}: no token in {self._patience.frozen:g} s", endpoint.epoch)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def probe_body(model: str) -> bytes:
    """The smallest request that makes an engine work: a frozen one answers all others."""
    message = {"role": "user", "content": "1"}
    return orjson.dumps({"model": model, "messages": [message], "max_tokens": 1})
