"""One server of a judge: its limit of concurrent requests and its health."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ixt_data.critics.vllm.capabilities import Capabilities
from ixt_data.critics.vllm.client import server_root
from ixt_data.critics.vllm.endpoint_stats import EndpointStats, LatencyHistogram
from ixt_data.errors import CriticError

INITIAL_LIMIT = 32
"""Requests in flight at first; doubled every round until the server is saturated."""

MAX_RETRY_AFTER_SECONDS = 60.0
"""A server that asks for a longer pause is asked again after this time."""

SLOW_FACTOR = 4.0
"""The limit stops growing when responses take this many times the best latency."""


@dataclass(eq=False)
class Endpoint:
    """One server.

    Attributes:
        url: its address up to `/v1`.
        max_in_flight: upper bound of `limit`.
        limit: maximum of requests in flight at this moment.
        is_up: whether it gets requests.
        reason: why it is not up.
        epoch: how often it crashed or hung.
        is_reserved: whether one document has it exclusively.
        in_flight: requests in flight.
        tasks: the asyncio tasks of these requests.
        last_response: time of the last HTTP response, by `time.monotonic`.
        last_success: time of the last response that was not an overload, by `time.monotonic`.
        refusals: how often it refused because of overload.
        is_refusing: whether it refused since its last successful response.
        latencies: of its responses.
        on_change: called when it goes up or down.
        capabilities: what it takes and gives, None before the trial request.
    """

    url: str
    max_in_flight: int
    limit: float = 0.0
    is_up: bool = False
    reason: str = ""
    epoch: int = 0
    is_reserved: bool = False
    in_flight: int = 0
    tasks: set["asyncio.Task[object]"] = field(default_factory=set)
    last_response: float = 0.0
    last_success: float = 0.0
    refusals: int = 0
    is_refusing: bool = False
    latencies: LatencyHistogram = field(default_factory=LatencyHistogram)
    on_change: Callable[[], None] = lambda: None
    capabilities: Capabilities | None = None
    _is_growing: bool = True
    _backoff_exponent: int = 0
    _backoff_until: float = 0.0
    _latency_average: float = 0.0
    _best_latency: float = float("inf")
    _last_reduction: float = 0.0
    _queue_length: float = 0.0
    _generated_tokens: float = -1.0
    _last_progress: float = 0.0
    _model: str | None = None

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")
        self.limit = min(self.max_in_flight, INITIAL_LIMIT)

    @property
    def root(self) -> str:
        """Address of the server without `/v1`."""
        return server_root(self.url)

    @property
    def problem(self) -> str:
        """Why the endpoint serves no requests, for an error message."""
        return "refuses every request because of overload" if self.is_up else self.reason

    @property
    def stats(self) -> EndpointStats:
        """Its statistics at this moment."""
        limit = int(self.limit) if self.is_up else 0
        # A copy: another thread reads it while this one counts on.
        latencies = self.latencies + LatencyHistogram()
        return EndpointStats(
            self.in_flight, limit, self.is_up, self.epoch, self.refusals, latencies
        )

    def can_accept(self, now: float) -> bool:
        """Return whether it may get another request at a time of `time.monotonic`."""
        has_capacity = self.in_flight < int(self.limit)
        return self.is_up and not self.is_reserved and has_capacity and not self.in_backoff(now)

    @property
    def backoff_until(self) -> float:
        """Return the end of the pause after a refusal, by `time.monotonic`."""
        return self._backoff_until

    def in_backoff(self, now: float) -> bool:
        """Return whether requests pause after a refusal because of overload."""
        return now < self._backoff_until

    def record_response(self, seconds: float) -> None:
        """Record a response and raise the limit: by 1 per response at first, later per round."""
        self._backoff_exponent, self.is_refusing = 0, False
        self.last_success = time.monotonic()
        self.latencies.add(seconds)
        if self.in_flight + 1 < 0.8 * self.limit:
            # The latency of a lone request does not describe a full server.
            return
        average = self._latency_average
        self._latency_average = seconds if not average else 0.95 * average + 0.05 * seconds
        self._best_latency = min(self._best_latency, self._latency_average)
        if self._latency_average <= SLOW_FACTOR * self._best_latency:
            step = 1.0 if self._is_growing else 1.0 / self.limit
            self.limit = min(self.max_in_flight, self.limit + step)

    def record_refusal(self, retry_after: float | None = None) -> None:
        """Record an overload response: halve the limit and back off exponentially.

        Args:
            retry_after: the server's own wish in seconds, up to `MAX_RETRY_AFTER_SECONDS`.
        """
        now = time.monotonic()
        self.refusals, self.is_refusing = self.refusals + 1, True
        # All refusals of one round count once.
        if now >= self._backoff_until:
            pause = min(10.0, 0.05 * 2**self._backoff_exponent)
            pause *= random.uniform(0.5, 1.0)
            self._backoff_until = now + max(pause, min(retry_after or 0, MAX_RETRY_AFTER_SECONDS))
            self._backoff_exponent = min(self._backoff_exponent + 1, 10)
        self._reduce(0.5, now)

    def record_queue_length(self, waiting: float) -> None:
        """Record the length of the server's own queue; reduce the limit if it stays long.

        Prompts that arrive together make a queue for a moment, so two long ones in a row count.
        """
        if min(waiting, self._queue_length) > max(4.0, 0.2 * self.limit):
            self._reduce(0.9, time.monotonic())
        self._queue_length = waiting

    def _reduce(self, factor: float, now: float) -> None:
        if now - self._last_reduction > min(max(self._latency_average, 0.1), 10.0):
            self.limit, self._is_growing = max(1.0, self.limit * factor), False
            self._last_reduction = now

    def pause(self, reason: str) -> None:
        """Send no more requests until `readmit`; those in flight may still succeed."""
        self.is_up, self.reason = False, reason
        self.on_change()

    def check_model(self, model: str | None) -> None:
        """Check that a response is by the model of the earlier ones.

        Raises:
            CriticError: another model has responded.
        """
        if model is not None and self._model not in (None, model):
            raise CriticError(
                f"{self.url} now responds with the model {model!r}; before, it was "
                f"{self._model!r}. One critique run needs one judge: give a --model that does not "
                "change"
            )
        self._model = model or self._model

    def mark_crashed(self, reason: str, epoch: int) -> None:
        """Record a crash, once for all requests of an epoch, and cancel those in flight."""
        if self.epoch == epoch:
            self.is_up, self.reason, self.epoch = False, reason, epoch + 1
            for task in self.tasks:
                task.cancel()
            self.on_change()

    def readmit(self) -> None:
        """Send requests again, with the initial limit."""
        self.is_up, self.reason, self.is_refusing = True, "", False
        self.limit, self._is_growing = min(self.max_in_flight, INITIAL_LIMIT), True
        self._generated_tokens, self._last_progress = -1.0, time.monotonic()
        self._best_latency, self._latency_average = float("inf"), 0.0
        self._backoff_until, self._queue_length = 0.0, 0.0
        self.on_change()

    def track(self, task: "asyncio.Task[object]") -> None:
        """Add a request in flight; idle time before it does not count as hung."""
        if not self.tasks:
            self._last_progress = time.monotonic()
        self.tasks.add(task)

    def is_hung(self, generated_tokens: float, seconds: float) -> bool:
        """Return whether it generated no token for some seconds with requests in flight.

        Args:
            generated_tokens: the server's own count so far.
            seconds: without progress.
        """
        now = time.monotonic()
        has_progress = (
            generated_tokens != self._generated_tokens
            or not self.tasks
            or self.last_response > self._last_progress
        )
        if has_progress:
            self._generated_tokens, self._last_progress = generated_tokens, now
        return now - self._last_progress > seconds
