"""What a judge's requests may use: requests and tokens per minute, and cost.

A request reserves its highest cost before it is sent, and pays its real one after the response. So
requests in flight never exceed a bound of cost. Each rate is a token bucket of one second; it may
go into debt, because the tokens of a request are known after it. `aiolimiter` has neither debt nor
corrections.
"""

import asyncio
import math
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ixt_data.critics.vllm.client import HttpResponse
from ixt_data.critics.vllm.prompts import BYTES_PER_TOKEN
from ixt_data.errors import CriticError

COST = "cost_millionths"
"""Key of the cost in a critic's usage, in millionths of the price's unit."""


class BudgetSpent(CriticError):
    """The next request might cost more than the bound allows."""


@dataclass(frozen=True, slots=True)
class SpendingLimits:
    """Limits of one worker, over all of its endpoints; None means no limit.

    Attributes:
        requests_per_minute: requests that are sent.
        tokens_per_minute: tokens of prompts and completions together.
        max_cost: cost, in the unit of the prices.
        price_in: price of a million prompt tokens.
        price_out: price of a million completion tokens, thinking included.
        spent_before: cost of earlier commands, which counts for `max_cost`.
        ledger: file that each cost is appended to, see `read_ledger`; None for no file.

    Raises:
        CriticError: a limit is not above 0, a price is below 0, or a bound of cost has no price.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_cost: float | None = None
    price_in: float = 0.0
    price_out: float = 0.0
    spent_before: float = 0.0
    ledger: str | None = None

    def __post_init__(self) -> None:
        """See the class."""
        for name in ("requests_per_minute", "tokens_per_minute", "max_cost"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise CriticError(f"{name} is {value:g}; it must be a number above 0")
        for name in ("price_in", "price_out"):
            if not 0 <= getattr(self, name) < math.inf:
                raise CriticError(f"{name} is {getattr(self, name):g}; it must be 0 or more")
        if self.max_cost is not None and not self.price_in + self.price_out:
            raise CriticError("a maximum cost needs prices: give --price-in and --price-out")

    def divide(self, workers: int) -> "SpendingLimits":
        """Return the limits of each of some workers, so that all together keep these."""
        limits = (self.requests_per_minute, self.tokens_per_minute, self.max_cost)
        requests, tokens, cost = (None if one is None else one / workers for one in limits)
        return replace(
            self,
            requests_per_minute=requests,
            tokens_per_minute=tokens,
            max_cost=cost,
            spent_before=self.spent_before / workers,
        )

    def cost(self, tokens_in: float, tokens_out: float) -> int:
        """Return the cost of some tokens, in millionths of the unit, rounded up."""
        return math.ceil(tokens_in * self.price_in + tokens_out * self.price_out)


def read_ledger(path: Path) -> float:
    """Return the cost in a ledger, in the unit of the prices; 0 without a file.

    Each line has the cost of one request in millionths. A last line without its end was cut by a
    crash, and does not count yet.

    Raises:
        CriticError: the file cannot be read, or a line is not a number.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return 0.0
    except OSError as error:
        raise CriticError(f"{path}: {error.strerror}") from None
    if wrong := next((line for line in lines if line and not line.isdigit()), None):
        raise CriticError(f"{path}: {wrong!r} is not the cost of a request")
    return sum(map(int, filter(None, lines))) / 1e6


class RateLimit:
    """A token bucket that holds one second's amount, and may go into debt.

    Args:
        per_minute: amount per minute; None for no limit.
        clock: returns seconds.
    """

    def __init__(self, per_minute: float | None, clock: Callable[[], float]) -> None:
        self._per_second = math.inf if per_minute is None else per_minute / 60
        self._capacity, self._clock = max(1.0, self._per_second), clock
        self._level, self._filled = self._capacity, clock()

    def delay(self) -> float:
        """Return the seconds until the next amount may be taken, 0 if it may be taken now."""
        if math.isinf(self._per_second):
            return 0.0
        now = self._clock()
        filled = self._level + (now - self._filled) * self._per_second
        self._level, self._filled = min(self._capacity, filled), now
        # A request needs one token; a bucket of many is in debt below that.
        missing = 1.0 - self._level
        # Rounding must not leave a pause that no clock can measure.
        return missing / self._per_second if missing > 1e-6 else 0.0

    def take(self, amount: float) -> None:
        """Take an amount; a negative one returns what was taken too much."""
        if not math.isinf(self._per_second):
            self._level -= amount


@dataclass
class Reservation:
    """A request's expected use, from before it is sent until its response.

    Attributes:
        tokens_in: estimated tokens of the prompt.
        tokens_out: maximum of completion tokens.
        paced: tokens that the rate limit counts for it; None before it is sent.
        used: `tokens_in` and `tokens_out` of the response, None while unknown.
    """

    tokens_in: float
    tokens_out: int
    paced: float | None = None
    used: Mapping[str, int] | None = None

    def record(self, reply: HttpResponse) -> Mapping[str, int]:
        """Read a response's usage. An error costs nothing; an answer without usage is unknown."""
        body: Any = reply.json() if reply.status == 200 else None
        usage = body.get("usage") if isinstance(body, dict) else None
        usage = usage if isinstance(usage, dict) else {}
        used = {
            "tokens_in": int(usage.get("prompt_tokens") or 0),
            "tokens_out": int(usage.get("completion_tokens") or 0),
        }
        if any(used.values()) or reply.status != 200:
            self.used = used
        return used

    def cancel(self) -> None:
        """Record that the request reached no server."""
        self.used = {"tokens_in": 0, "tokens_out": 0}


class Spending:
    """What one critic has used, and may still use.

    Args:
        limits: see `SpendingLimits`.
        usage: gets the cost, see `COST`; a request without a known use counts with its maximum.
        clock: returns seconds.
        sleep: waits some seconds.
    """

    def __init__(
        self,
        limits: SpendingLimits,
        usage: Counter[str],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._limits, self._usage, self._sleep = limits, usage, sleep
        self._rates = (
            RateLimit(limits.requests_per_minute, clock),
            RateLimit(limits.tokens_per_minute, clock),
        )
        self._tokens_per_byte = 1 / BYTES_PER_TOKEN
        self._mean_tokens_out: float | None = None
        self._spent = math.ceil(limits.spent_before * 1e6)
        self._reserved = self._in_flight = 0
        self._ledger: int | None = None
        self._settled = asyncio.Event()
        self._queue = asyncio.Lock()

    @asynccontextmanager
    async def reserve(
        self, prompt_bytes: int, max_tokens: int, *, waits: bool = True
    ) -> AsyncIterator[Reservation]:
        """Reserve the cost of a request for the time of the block.

        Args:
            prompt_bytes: UTF-8 bytes of the prompt.
            max_tokens: maximum of completion tokens.
            waits: wait for requests in flight, which may cost less than they reserved.

        Raises:
            BudgetSpent: the request might pass the bound.
        """
        expected = Reservation(prompt_bytes * self._tokens_per_byte, max_tokens)
        cost = self._limits.cost(expected.tokens_in, max_tokens)
        await self._wait_for_budget(cost, waits)
        self._reserved += cost
        self._in_flight += 1
        try:
            yield expected
        finally:
            self._reserved -= cost
            self._in_flight -= 1
            self._settle(expected, prompt_bytes, cost)

    async def _wait_for_budget(self, cost: int, waits: bool) -> None:
        if self._limits.max_cost is None:
            return
        bound = self._limits.max_cost * 1e6
        while self._spent + self._reserved + cost > bound:
            if not self._in_flight or not waits:
                raise BudgetSpent(
                    f"--max-cost: {self._spent / 1e6:.6g} of {self._limits.max_cost:g} is spent, "
                    f"and the next request may cost {cost / 1e6:.6g}. Finished critiques are "
                    "kept: the same command with a higher --max-cost continues"
                )
            self._settled.clear()
            await self._settled.wait()

    async def pace(self, expected: Reservation) -> None:
        """Wait until the rates allow a request; requests leave in the order of their arrival."""
        mean = self._mean_tokens_out
        tokens = expected.tokens_in + (expected.tokens_out if mean is None else mean)
        async with self._queue:
            while (pause := max(rate.delay() for rate in self._rates)) > 0:
                await self._sleep(pause)
            expected.paced = tokens
            for rate, amount in zip(self._rates, (1.0, tokens), strict=True):
                rate.take(amount)

    def _settle(self, expected: Reservation, prompt_bytes: int, cost: int) -> None:
        used = expected.used
        if used is not None:
            cost = self._limits.cost(used["tokens_in"], used["tokens_out"])
            if used["tokens_in"]:
                mean, out = self._mean_tokens_out, used["tokens_out"]
                if expected.tokens_out > 1:
                    self._mean_tokens_out = out if mean is None else 0.9 * mean + 0.1 * out
                ratio = used["tokens_in"] / max(1, prompt_bytes)
                self._tokens_per_byte = max(self._tokens_per_byte, ratio)
        if expected.paced is None:
            # It was cancelled before it was sent.
            cost = 0
        elif used is not None:
            self._rates[1].take(used["tokens_in"] + used["tokens_out"] - expected.paced)
        self._pay(cost)
        self._settled.set()

    def pay_tokens(self, tokens_in: int, tokens_out: int) -> None:
        """Count the cost of a response whose request an earlier command has sent."""
        self._pay(self._limits.cost(tokens_in, tokens_out))

    def _pay(self, cost: int) -> None:
        self._spent += cost
        if not cost:
            return
        self._usage[COST] += cost
        if self._limits.ledger is None:
            return
        if self._ledger is None:
            path = Path(self._limits.ledger)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._ledger = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            size = os.fstat(self._ledger).st_size
            if size and os.pread(self._ledger, 1, size - 1) != b"\n":
                # A crash has cut the last line.
                os.write(self._ledger, b"\n")
        # One write per line: several processes append to the file.
        os.write(self._ledger, b"%d\n" % cost)

    def close(self) -> None:
        """Close the ledger."""
        if self._ledger is not None:
            os.close(self._ledger)
            self._ledger = None
