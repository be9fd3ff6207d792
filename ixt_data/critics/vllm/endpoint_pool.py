"""All servers of one judge: load balancing, health checks and crash recovery."""

import asyncio
import itertools
import re
import time
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

HEALTH_LAG_SECONDS = 0.5
"""A server may report itself healthy for so long after its engine crashed (measured: 0.45)."""

MAX_WAIT_SECONDS = 1.0
"""Time between two checks of the timeout without a server, while nothing changes."""

HUNG = "hung"
"""Start of the reason of an endpoint that is down because it hung."""

_WAITING = re.compile(rb"^vllm:num_requests_waiting(?:\{[^}]*\})?\s+([0-9.e+]+)", re.MULTILINE)
_GENERATED = re.compile(rb"^vllm:generation_tokens_total(?:\{[^}]*\})?\s+([0-9.e+]+)", re.MULTILINE)


class ServerCrashed(Exception):
    """The server crashed or hung while the request was in flight."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts of requests and health checks.

    Attributes:
        request_seconds: for one response.
        hung_seconds: without a generated token, with requests in flight, until a server counts as
            hung.
        no_server_seconds: without any usable server until the critique run stops.
        watch_seconds: between two health checks of a server.
    """

    request_seconds: float = 600.0
    hung_seconds: float = 120.0
    no_server_seconds: float = 900.0
    watch_seconds: float = 5.0


class EndpointPool:
    """All servers of a judge.

    Args:
        urls: their addresses up to `/v1`.
        client: sends the requests.
        max_in_flight: maximum of requests in flight per server.
        timeouts: of requests and health checks.
        check: raises CriticError if a server that responds serves another judge.

    Attributes:
        all: the endpoints.
        fatal: the error that ends the critique run, if one occurred.
    """

    def __init__(
        self,
        urls: Sequence[str],
        client: Client,
        max_in_flight: int,
        timeouts: Timeouts,
        check: Callable[[Endpoint], Awaitable[None]],
    ) -> None:
        self.all = [Endpoint(url, max_in_flight, on_change=self._wake_all) for url in urls]
        self._client, self._timeouts, self._check = client, timeouts, check
        # In the order of arrival; each future leaves when its task continues.
        self._waiters: dict[asyncio.Future[None], None] = {}
        self._probes: dict[Endpoint, asyncio.Task[bool]] = {}
        self._watchers: list[asyncio.Task[None]] = []
        self._exclusive = asyncio.Lock()
        self._last_usable = time.monotonic()
        self.fatal: CriticError | None = None

    @property
    def give_logprobs(self) -> bool:
        """Whether every server that was tried gives the probabilities of a score."""
        return all(one.capabilities is None or one.capabilities.logprobs for one in self.all)

    @property
    def window(self) -> int:
        """Maximum of documents in flight at this moment."""
        return max(1, sum(int(endpoint.limit) for endpoint in self.all if endpoint.is_up))

    def resume(self) -> None:
        """Restart the timeout without a server: the event loop paused and checked none."""
        self._last_usable = time.monotonic()

    def watch(self) -> None:
        """Start the health checks; they run as long as the event loop."""
        self._watchers = [asyncio.ensure_future(self._watch(endpoint)) for endpoint in self.all]

    async def close(self) -> None:
        """Cancel all health checks."""
        tasks = [*self._watchers, *self._probes.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def acquire(self) -> Endpoint:
        """Return the least loaded server that accepts a request; wait until there is one.

        Raises:
            CriticError: no server was usable for `no_server_seconds`, or one serves another judge.
        """
        while True:
            if self.fatal is not None:
                raise self.fatal
            now = time.monotonic()
            candidates = [endpoint for endpoint in self.all if endpoint.can_accept(now)]
            if candidates:
                best = min(candidates, key=lambda endpoint: endpoint.in_flight / endpoint.limit)
                best.in_flight += 1
                self._last_usable = now
                return best
            await self._wait()

    async def acquire_exclusive(self) -> Endpoint:
        """Return a server with no other request in flight, reserved until `release`.

        Raises:
            CriticError: see `acquire`.
        """
        await self._exclusive.acquire()
        try:
            while True:
                if self.fatal is not None:
                    raise self.fatal
                up = [endpoint for endpoint in self.all if endpoint.is_up]
                if up:
                    chosen = min(up, key=lambda endpoint: endpoint.in_flight)
                    chosen.is_reserved = True
                    try:
                        while chosen.is_up and (
                            chosen.in_flight or chosen.in_backoff(time.monotonic())
                        ):
                            await self._wait()
                    except BaseException:
                        # A cancelled document must not keep the server reserved.
                        chosen.is_reserved = False
                        self._wake_all()
                        raise
                    chosen.is_reserved = chosen.is_up
                    if chosen.is_reserved:
                        chosen.in_flight += 1
                        return chosen
                await self._wait()
        except BaseException:
            self._exclusive.release()
            raise

    def release(self, endpoint: Endpoint, exclusive: bool) -> None:
        """Return a server that `acquire` or `acquire_exclusive` gave."""
        endpoint.in_flight -= 1
        if exclusive:
            endpoint.is_reserved = False
            self._exclusive.release()
            self._wake_all()
        else:
            self._wake(self._free_slots())

    def fail(self, error: CriticError) -> None:
        """End the critique run with an error, for all tasks that wait."""
        self.fatal = error
        self._wake_all()

    def _free_slots(self) -> int:
        now = time.monotonic()
        return sum(int(one.limit) - one.in_flight for one in self.all if one.can_accept(now))

    def _wake(self, count: int) -> None:
        """Wake the tasks that wait longest."""
        waiting = (future for future in self._waiters if not future.done())
        for future in itertools.islice(waiting, max(count, 1)):
            future.set_result(None)

    def _wake_all(self) -> None:
        self._wake(len(self._waiters))

    async def _wait(self) -> None:
        """Wait until a server may accept a request: a release, another state, the end of a backoff.

        Raises:
            CriticError: no server was usable for `no_server_seconds`.
        """
        now, timeout = time.monotonic(), self._timeouts.no_server_seconds
        up = [endpoint for endpoint in self.all if endpoint.is_up]
        if up:
            # The requests in a full server may take as long as any other.
            timeout = max(timeout, self._timeouts.request_seconds)
        if any(not endpoint.is_refusing for endpoint in up):
            self._last_usable = now
        elif now - max(self._last_usable, *(one.last_success for one in self.all)) > timeout:
            problems = "; ".join(f"{endpoint.url}: {endpoint.problem}" for endpoint in self.all)
            raise CriticError(
                f"no server is usable for {timeout:g} s ({problems}). Finished critiques are "
                "stored: rerun the same command once a server is up"
            )
        ends = [one.backoff_until for one in up if one.in_backoff(now)]
        seconds = min([max(end - now, 0.001) for end in ends], default=MAX_WAIT_SECONDS)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiters[future] = None
        handle = loop.call_later(min(seconds, MAX_WAIT_SECONDS), _resolve, future)
        try:
            await future
        except asyncio.CancelledError:
            # The wake-up that this task got belongs to another one.
            if future.done() and not future.cancelled():
                self._wake(1)
            raise
        finally:
            handle.cancel()
            del self._waiters[future]

    async def post(self, endpoint: Endpoint, path: str, body: bytes, epoch: int) -> HttpResponse:
        """Send one request to an acquired server.

        Args:
            endpoint: the server.
            path: below `/v1`.
            body: JSON, encoded.
            epoch: of the endpoint when it was acquired.

        Raises:
            ServerCrashed: the server crashed or hung meanwhile.
            ConnectionBroken: the connection broke, but the server is healthy.
            EndpointUnreachable, RequestTimeout: see `Client.post`.
        """
        task = asyncio.current_task()
        assert task is not None
        endpoint.track(task)
        start = time.monotonic()
        try:
            response = await self._client.post(
                endpoint.url + path, body, self._timeouts.request_seconds
            )
            endpoint.last_response = time.monotonic()
            return response
        except asyncio.CancelledError:
            if endpoint.epoch == epoch:
                raise
            task.uncancel()
            raise ServerCrashed(endpoint.reason) from None
        except EndpointUnreachable as error:
            endpoint.pause(str(error))
            raise
        except RequestTimeout as error:
            if endpoint.last_response < start:
                endpoint.tasks.discard(task)
                endpoint.mark_crashed(f"{HUNG}: {error} to any request", epoch)
            raise
        except ConnectionBroken as error:
            endpoint.tasks.discard(task)
            if await self.has_crashed(endpoint, epoch):
                raise ServerCrashed(str(error)) from None
            endpoint.last_response = time.monotonic()
            raise
        finally:
            endpoint.tasks.discard(task)

    async def has_crashed(self, endpoint: Endpoint, epoch: int) -> bool:
        """Return whether a server crashed since `epoch`; concurrent callers share one probe."""
        if endpoint.epoch != epoch:
            return True
        if endpoint not in self._probes:
            self._probes[endpoint] = asyncio.ensure_future(self._probe(endpoint))
        return await asyncio.shield(self._probes[endpoint])

    async def _probe(self, endpoint: Endpoint) -> bool:
        epoch = endpoint.epoch
        try:
            await asyncio.sleep(HEALTH_LAG_SECONDS)
            try:
                is_healthy = (await self._client.get(f"{endpoint.root}/health")).status < 500
            except (EndpointUnreachable, ConnectionBroken, RequestTimeout):
                is_healthy = False
            if not is_healthy:
                endpoint.mark_crashed("its connections broke and /health fails", epoch)
            return endpoint.epoch != epoch
        finally:
            del self._probes[endpoint]

    async def _watch(self, endpoint: Endpoint) -> None:
        """Check a server periodically: readmit it, or mark it as hung."""
        tries = 0
        while True:
            if endpoint.is_up:
                tries = 0
                await asyncio.sleep(self._timeouts.watch_seconds)
                if endpoint.is_up:
                    await self._check_load(endpoint)
                continue
            await asyncio.sleep(min(self._timeouts.watch_seconds, 0.2 * 2**tries))
            tries = min(tries + 1, 10)
            try:
                await self._check(endpoint)
                endpoint.readmit()
            except CriticError as error:
                self.fail(error)
                return
            except (EndpointUnreachable, ConnectionBroken, RequestTimeout) as error:
                endpoint.reason = str(error)

    async def _check_load(self, endpoint: Endpoint) -> None:
        try:
            response = await self._client.get(f"{endpoint.root}/metrics")
        except (EndpointUnreachable, ConnectionBroken, RequestTimeout):
            return
        # One line per engine of a server.
        waiting, generated = _WAITING.findall(response.body), _GENERATED.findall(response.body)
        endpoint.record_queue_length(sum(map(float, waiting)))
        seconds = self._timeouts.hung_seconds
        if generated and endpoint.is_hung(sum(map(float, generated)), seconds):
            endpoint.mark_crashed(f"{HUNG}: no token in {seconds:g} s", endpoint.epoch)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def probe_body(model: str) -> bytes:
    """Return the smallest request that needs the engine: a hung server serves all others."""
    message = {"role": "user", "content": "1"}
    return orjson.dumps({"model": model, "messages": [message], "max_tokens": 1})
