"""The part of the stream's benchmark that depends on the planner."""

from stream_plan import plan_once


def test_plans_are_measured_without_a_store() -> None:
    seconds, memory = plan_once(200_000, 2)
    assert 0 < seconds < 60
    assert memory >= 0
