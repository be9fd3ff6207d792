"""Limits of rates and cost, with a clock of the test and with a real HTTP server."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest
from fake_vllm import Running
from judging import PLAIN, QUICK, document, judged

from ixt_data.critics.vllm.client import HttpResponse
from ixt_data.critics.vllm.critic import VllmCritic
from ixt_data.critics.vllm.prompts import JudgeSampling
from ixt_data.critics.vllm.spending import (
    COST,
    BudgetSpent,
    RateLimit,
    Reservation,
    Spending,
    SpendingLimits,
    read_ledger,
)
from ixt_data.errors import CriticError

TEXTS = [f"Page {i}" for i in range(20)]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def sent_at(limits: SpendingLimits, n: int, tokens_out: int = 50) -> list[float]:
    """Return the times of n requests of 100 + `tokens_out` tokens, each answered at once."""
    clock, times = Clock(), list[float]()
    spending = Spending(limits, Counter(), clock, clock.sleep)

    async def request() -> None:
        async with spending.reserve(250, 4096) as expected:
            await spending.pace(expected)
            times.append(clock.now)
            expected.used = {"tokens_in": 100, "tokens_out": tokens_out}

    async def all_requests() -> None:
        await asyncio.gather(*(request() for _ in range(n)))

    asyncio.run(all_requests())
    return times


def test_requests_per_minute_hold_in_every_minute() -> None:
    times = sent_at(SpendingLimits(requests_per_minute=120), 600)
    most = max(sum(start <= one < start + 60 for one in times) for start in times)
    # A bucket holds the requests of one second.
    assert 118 <= most <= 122
    assert times[-1] == pytest.approx(299, abs=1)


def test_tokens_per_minute_are_those_that_were_used() -> None:
    times = sent_at(SpendingLimits(tokens_per_minute=6000), 100)
    # Of 150 tokens each, although up to 4,196 may be used.
    assert times[-1] == pytest.approx(100 * 150 / 100, rel=0.1)


def test_rate_without_limit_never_waits() -> None:
    rate = RateLimit(None, lambda: 0.0)
    rate.take(1e12)
    assert rate.delay() == 0


def test_server_gets_no_more_requests_per_second_than_allowed() -> None:
    with Running() as fake:
        start = time.monotonic()
        judged(fake, *TEXTS[:15], limits=SpendingLimits(requests_per_minute=600))
        # 10 at once, then one every 0.1 s.
        assert time.monotonic() - start > 0.45
        assert fake.fake.requests["chat"] == 15


@pytest.mark.parametrize("concurrency", [1, 64])
def test_maximum_cost_ends_a_run_with_all_finished_critiques(concurrency: int) -> None:
    # A completion has 120 tokens of at most 200, and a unit buys one.
    limits = SpendingLimits(max_cost=1000, price_out=1e6)
    sampling = JudgeSampling(expected=False, max_tokens=200)
    options = {"limits": limits, "sampling": sampling, "timeouts": QUICK}
    with Running({"delay": 0.05}) as fake:
        with VllmCritic(fake.url, "judge", concurrency=concurrency, **options) as critic:
            done = []
            with pytest.raises(BudgetSpent, match=r"840 of 1000 is spent.*may cost 200"):
                [done.append(one) for one in critic.run(map(document, TEXTS))]
        assert len(done) == fake.fake.requests["chat"] == 7
        assert critic.usage[COST] == 840_000_000


def test_critique_is_kept_where_its_expected_score_costs_too_much() -> None:
    limits = SpendingLimits(max_cost=210, price_out=1e6)
    sampling = JudgeSampling(max_tokens=209)
    done = []
    with Running() as fake:
        options = {"limits": limits, "sampling": sampling, "timeouts": QUICK}
        # The digit's response has no usage, so it counts with its maximum of one token.
        with VllmCritic(fake.url, "judge", **options) as critic, pytest.raises(BudgetSpent):
            [done.append(one) for one in critic.run(map(document, TEXTS))]
        assert [one.status for one in done] == ["ok"]
        assert critic.usage[COST] == 121_000_000


def test_unknown_use_counts_with_its_maximum() -> None:
    usage = Counter[str]()
    spending = Spending(SpendingLimits(max_cost=1, price_in=1, price_out=10), usage)

    async def request(reply: HttpResponse | None) -> int:
        before = usage[COST]
        async with spending.reserve(250, 40) as expected:
            await spending.pace(expected)
            if reply is not None:
                expected.record(reply)
        return usage[COST] - before

    counted = b'{"usage": {"prompt_tokens": 90, "completion_tokens": 7}}'
    assert asyncio.run(request(None)) == 100 + 400
    assert asyncio.run(request(HttpResponse(200, b"{}"))) == 100 + 400
    assert asyncio.run(request(HttpResponse(200, counted))) == 90 + 70
    assert asyncio.run(request(HttpResponse(503, b"{}"))) == 0


def test_request_that_was_not_sent_costs_nothing() -> None:
    usage = Counter[str]()
    spending = Spending(SpendingLimits(max_cost=1, price_out=10), usage)

    async def request() -> Reservation:
        async with spending.reserve(250, 40) as expected:
            return expected

    asyncio.run(request())
    assert usage[COST] == 0


def test_limits_are_checked_and_divided() -> None:
    whole = SpendingLimits(600, 9000, 30, 1, 2)
    assert whole.divide(3) == SpendingLimits(200, 3000, 10, 1, 2)
    assert SpendingLimits().divide(3) == SpendingLimits()
    for wrong in ({"requests_per_minute": 0}, {"price_in": -1}, {"max_cost": 5}):
        with pytest.raises(CriticError):
            SpendingLimits(**wrong)
    assert PLAIN.expected is False


def test_ledger_has_the_cost_of_all_commands(tmp_path: Path) -> None:
    file = tmp_path / "new" / "costs.txt"
    prices = SpendingLimits(price_out=1_000_000, ledger=str(file))
    with Running() as fake:
        assert len(judged(fake, *TEXTS[:5], limits=prices)) == 5
    assert read_ledger(file) == 5 * 120
    # A crash has cut the last line.
    file.write_bytes(file.read_bytes() + b"999")
    assert read_ledger(file) == 5 * 120
    with Running() as fake:
        judged(fake, TEXTS[5], limits=prices)
    assert read_ledger(file) == 6 * 120 + 999 / 1e6
    assert read_ledger(tmp_path / "none.txt") == 0
    file.write_text("five\n")
    with pytest.raises(CriticError, match="is not the cost of a request"):
        read_ledger(file)


def test_cost_of_earlier_commands_counts_for_the_bound() -> None:
    limits = SpendingLimits(max_cost=1000, price_out=1_000_000, spent_before=750)
    sampling = JudgeSampling(expected=False, max_tokens=200)
    with Running() as fake, pytest.raises(CriticError, match="870 of 1000 is spent"):
        judged(fake, *TEXTS, limits=limits, sampling=sampling)
    half = limits.divide(2)
    assert (half.max_cost, half.spent_before) == (500, 375)
