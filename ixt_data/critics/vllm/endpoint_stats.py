"""Statistics of a judge's endpoints at one moment, for progress bars and for Prometheus."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

LATENCY_BUCKETS_SECONDS = (
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
"""Upper bounds of the response latency buckets, in seconds; the last bucket is unbounded."""

REPORT_SECONDS = 0.5
"""Seconds between two reports of `reporting_stats`."""


@dataclass
class LatencyHistogram:
    """Response latencies.

    Attributes:
        buckets: responses per bucket of `LATENCY_BUCKETS_SECONDS`, plus the unbounded one.
        total_seconds: sum of all latencies.
    """

    buckets: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS_SECONDS) + 1))
    total_seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one response."""
        self.buckets[bisect_left(LATENCY_BUCKETS_SECONDS, seconds)] += 1
        self.total_seconds += seconds

    def __add__(self, other: "LatencyHistogram") -> "LatencyHistogram":
        """Return the histogram of both together."""
        sums = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        return LatencyHistogram(sums, self.total_seconds + other.total_seconds)


@dataclass(frozen=True)
class EndpointStats:
    """Statistics of one endpoint, as a client sees it.

    Attributes:
        in_flight: requests in flight.
        limit: maximum of requests in flight at this moment.
        is_up: whether the client sends it requests.
        crashes: how often it crashed or hung.
        refusals: how often it refused a request because of overload.
        latencies: of its responses.
    """

    in_flight: int = 0
    limit: int = 0
    is_up: bool = False
    crashes: int = 0
    refusals: int = 0
    latencies: LatencyHistogram = field(default_factory=LatencyHistogram)

    def __add__(self, other: "EndpointStats") -> "EndpointStats":
        """Return the statistics of the same endpoint as two workers see it."""
        return EndpointStats(
            self.in_flight + other.in_flight,
            self.limit + other.limit,
            self.is_up or other.is_up,
            max(self.crashes, other.crashes),
            self.refusals + other.refusals,
            self.latencies + other.latencies,
        )


StatsByEndpoint = dict[str, EndpointStats]
"""Endpoint statistics by the endpoint's address."""


def merge_stats(one: StatsByEndpoint, other: StatsByEndpoint) -> StatsByEndpoint:
    """Return the endpoint statistics of two workers together."""
    return {
        url: one.get(url, EndpointStats()) + other.get(url, EndpointStats())
        for url in {**one, **other}
    }


@contextmanager
def reporting_stats(critic: Any, report: Callable[[StatsByEndpoint], None]) -> Iterator[None]:
    """Report a critic's endpoint statistics while the block runs, and once at its end.

    Args:
        critic: a critic; nothing is reported if it has no method `endpoint_stats`.
        report: called from a thread every `REPORT_SECONDS`.
    """
    read: Callable[[], StatsByEndpoint] | None = getattr(critic, "endpoint_stats", None)
    if read is None:
        yield
        return
    stop = Event()

    def loop() -> None:
        while not stop.wait(REPORT_SECONDS):
            report(read())

    thread = Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        report(read())
