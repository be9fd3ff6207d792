"""What is known of a judge's servers at one moment: for people, and for whoever watches them."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper ends of the buckets of answer times; the last bucket has none."""

EVERY = 0.5
"""Seconds between two looks."""


@dataclass
class LatencyHistogram:
    """How long answers took: how many fell into each bucket, and the sum in seconds."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Notes one."""
        self.buckets[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds

    def __add__(self, other: "LatencyHistogram") -> "LatencyHistogram":
        """Of both together."""
        sums = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        return LatencyHistogram(sums, self.total + other.total)


@dataclass(frozen=True)
class Meter:
    """One server as those see it that ask it.

    Attributes:
        in_flight: requests under way.
        limit: requests that it gets at a time.
        up: whether it gets any.
        deaths: how often it died or froze.
        refusals: how often it said that it has too much to do.
        times: of its answers.
    """

    in_flight: int = 0
    limit: int = 0
    up: bool = False
    deaths: int = 0
    refusals: int = 0
    times: LatencyHistogram = field(default_factory=LatencyHistogram)

    def __add__(self, other: "Meter") -> "Meter":
        """The same server as seen by two workers."""
        return Meter(
            self.in_flight + other.in_flight,
            self.limit + other.limit,
            self.up or other.up,
            max(self.deaths, other.deaths),
            self.refusals + other.refusals,
            self.times + other.times,
        )


Meters = dict[str, Meter]
"""By address."""


def added(one: Meters, other: Meters) -> Meters:
    """What two workers see of their servers."""
    return {url: one.get(url, Meter()) + other.get(url, Meter()) for url in {**one, **other}}


@contextmanager
def watching(critic: Any, tell: Callable[[Meters], None]) -> Iterator[None]:
    """Tells now and then what a critic sees of its servers, if it has any, while the block runs."""
    meters: Callable[[], Meters] | None = getattr(critic, "meters", None)
    if meters is None:
        yield
        return
    ended = Event()

    def watch() -> None:
        while not ended.wait(EVERY):
            tell(meters())

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        tell(meters())
