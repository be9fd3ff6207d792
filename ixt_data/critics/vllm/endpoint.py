"""One server of a judge: how much it gets at a time, and whether it is well."""

import asyncio
import random
import time
from dataclasses import dataclass, field

from ixt_data.critics.vllm.client import root_of
from ixt_data.critics.vllm.endpoint_stats import LatencyHistogram, Meter

START = 32
"""Requests under way at first; doubled every round until a server has enough."""

SLOW = 4.0
"""Answers that take this many times the best are a reason not to send more."""


@dataclass(eq=False)
class Endpoint:
    """One server.

    Attributes:
        url: its address up to `/v1`.
        most: requests under way at most.
        limit: how many it gets at the moment.
        up: whether it gets any.
        why: why it is set aside.
        epoch: how often it died.
        reserved: whether one document has it for itself.
        refusing: whether it has refused for overload since its last answer, at `answered_at`.
    """

    url: str
    most: int
    limit: float = 0.0
    up: bool = False
    why: str = ""
    epoch: int = 0
    reserved: bool = False
    in_flight: int = 0
    tasks: set["asyncio.Task[object]"] = field(default_factory=set)
    last_answer: float = 0.0
    answered_at: float = 0.0
    refusals: int = 0
    refusing: bool = False
    times: LatencyHistogram = field(default_factory=LatencyHistogram)
    _growing: bool = True
    _backoff: int = 0
    _rest_until: float = 0.0
    _pace: float = 0.0
    _best: float = float("inf")
    _reduced: float = 0.0
    _queue: float = 0.0
    _generated: float = -1.0
    _moved: float = 0.0

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")
        self.limit = min(self.most, START)

    @property
    def root(self) -> str:
        """Where `/health` is."""
        return root_of(self.url)

    @property
    def state(self) -> str:
        """Why it does nothing for us."""
        return "refuses every request, it says for overload" if self.up else self.why

    @property
    def meter(self) -> Meter:
        """Its figures at this moment."""
        limit = int(self.limit) if self.up else 0
        # A copy, so that all of it is of one moment.
        times = self.times + LatencyHistogram()
        return Meter(self.in_flight, limit, self.up, self.epoch, self.refusals, times)

    def free(self, now: float) -> bool:
        """Whether it takes another request."""
        room = self.in_flight < int(self.limit)
        return self.up and not self.reserved and room and not self.resting(now)

    def resting(self, now: float) -> bool:
        """Whether it is left alone for a moment, since it had too much to do."""
        return now < self._rest_until

    def answered(self, seconds: float) -> None:
        """Notes an answer: more may be sent, by one for each at first, later by one a round."""
        self._backoff, self.refusing, self.answered_at = 0, False, time.monotonic()
        self.times.add(seconds)
        if self.in_flight + 1 < 0.8 * self.limit:
            # How long an answer takes alone says nothing of how long it may take among others.
            return
        self._pace = seconds if not self._pace else 0.95 * self._pace + 0.05 * seconds
        self._best = min(self._best, self._pace)
        if self._pace <= SLOW * self._best:
            step = 1.0 if self._growing else 1.0 / self.limit
            self.limit = min(self.most, self.limit + step)

    def overloaded(self) -> None:
        """Notes a refusal for overload: half as much, and a pause that doubles each time."""
        now = time.monotonic()
        self.refusals, self.refusing = self.refusals + 1, True
        # All refusals of one round are one sign.
        if now >= self._rest_until:
            pause = min(10.0, 0.05 * 2**self._backoff)
            self._rest_until = now + pause * random.uniform(0.5, 1.0)
            self._backoff = min(self._backoff + 1, 10)
        self._reduce(0.5, now)

    def queueing(self, waiting: float) -> None:
        """Notes the length of the server's own queue: a short one is good, a long one is not.

        One that is gone at the next look was only that of many prompts that came together.
        """
        if min(waiting, self._queue) > max(4.0, 0.2 * self.limit):
            self._reduce(0.9, time.monotonic())
        self._queue = waiting

    def _reduce(self, factor: float, now: float) -> None:
        if now - self._reduced > min(max(self._pace, 0.1), 10.0):
            self.limit, self._growing, self._reduced = max(1.0, self.limit * factor), False, now

    def pause(self, why: str) -> None:
        """Gives it nothing until it is well again; what it has under way may still come."""
        self.up, self.why = False, why

    def set_aside(self, why: str, epoch: int) -> None:
        """Notes its death, once for all that were sent in an epoch: what it had is lost."""
        if self.epoch == epoch:
            self.up, self.why, self.epoch = False, why, epoch + 1
            for task in self.tasks:
                task.cancel()

    def welcome(self) -> None:
        """Takes it back."""
        self.up, self.why, self.refusing, self.limit = True, "", False, min(self.most, START)
        self._growing, self._generated, self._moved = True, -1.0, time.monotonic()
        self._best, self._pace, self._rest_until, self._queue = float("inf"), 0.0, 0.0, 0.0

    def begin(self, task: "asyncio.Task[object]") -> None:
        """Notes a request: the time for which it had nothing to do does not count."""
        if not self.tasks:
            self._moved = time.monotonic()
        self.tasks.add(task)

    def frozen(self, generated: float, seconds: float) -> bool:
        """Whether it has made no token for some seconds though it has work."""
        now = time.monotonic()
        if generated != self._generated or not self.tasks or self.last_answer > self._moved:
            self._generated, self._moved = generated, now
        return now - self._moved > seconds
