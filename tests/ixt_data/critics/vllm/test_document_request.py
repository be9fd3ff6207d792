"""Requests for documents: failures of servers, overload, and documents of extreme size."""

import dataclasses
import time

import pytest
from fake_vllm import Running
from judging import PLAIN, QUICK, document, judged

from ixt_data.critics.vllm.critic import VllmCritic
from ixt_data.errors import CriticError


def test_response_without_choices_fails_its_document() -> None:
    with Running() as fake:
        empty, good = judged(fake, "[[no_choices]] page", "A page.")
    assert (empty.status, empty.attempts, good.status) == ("no_answer", 3, "ok")


def test_gateway_error_of_a_crashed_server_blames_no_document() -> None:
    with Running({"gateway": True, "down": 0.5, "delay": 0.02}) as fake:
        texts = [f"page {i}" for i in range(40)]
        once, *good = judged(fake, "[[once_engine_crashed]] page", *texts, concurrency=8)
        assert fake.fake.crashes == 1
    assert {critique.status for critique in (once, *good)} == {"ok"}


def test_server_that_always_refuses_stops_the_run() -> None:
    timeouts = dataclasses.replace(QUICK, no_server_seconds=0.8)
    with (
        Running({"overload": 1.0}) as fake,
        pytest.raises(CriticError, match="because of overload"),
    ):
        judged(fake, "a", "b", timeouts=timeouts)


def test_overload_does_not_cost_the_expected_score() -> None:
    with Running({"busy_digits": 4}) as fake:
        (critique,) = judged(fake, "A page.", sampling=dataclasses.replace(PLAIN, expected=True))
    assert critique.expected is not None
    assert critique.flags == ()


def test_server_with_one_idle_engine_is_not_hung() -> None:
    with Running({"engines": 2}) as fake:
        (critique,) = judged(fake, "[[slow]] page")
    assert (critique.status, critique.attempts) == ("ok", 1)


def test_pause_between_units_does_not_count_as_hung() -> None:
    timeouts = dataclasses.replace(QUICK, hung_seconds=1.0, no_server_seconds=1.0)
    with (
        Running({"delay": 0.4, "down": 0.3}) as fake,
        VllmCritic(fake.url, "judge", sampling=PLAIN, timeouts=timeouts) as critic,
    ):
        (first,) = critic.run([document("a")])
        # As a worker does that waits for the units of another one.
        time.sleep(1.5)
        more = list(critic.run([document("b"), document("c")]))
        assert [one.attempts for one in (first, *more)] == [1, 1, 1]
        assert critic.endpoint_stats()[fake.url].crashes == 0
        time.sleep(1.5)
        (died,) = critic.run([document("[[once_engine_crashed]] d")])
    assert (died.status, died.attempts) == ("ok", 2)
