"""Limits of an endpoint: growth, reduction, backoff."""

import pytest

from ixt_data.critics.vllm.endpoint import Endpoint


def test_endpoint_limit_follows_the_server() -> None:
    endpoint = Endpoint("http://a/v1", max_in_flight=64)
    endpoint.readmit()
    endpoint.in_flight = 32
    for _ in range(100):
        endpoint.in_flight = int(endpoint.limit)
        endpoint.record_response(0.5)
    assert endpoint.limit == 64
    endpoint.record_refusal()
    endpoint.record_refusal()
    assert endpoint.limit == 32
    for _ in range(2):
        endpoint.record_queue_length(1000)
    # All signs of one round are one.
    assert endpoint.limit == 32
    for _ in range(32):
        endpoint.in_flight = int(endpoint.limit)
        endpoint.record_response(0.5)
    assert 32 < endpoint.limit <= 33.5


def test_endpoint_limit_falls_with_a_long_queue() -> None:
    endpoint = Endpoint("http://a/v1", max_in_flight=64)
    endpoint.readmit()
    for waiting in (20, 0, 20, 6, 20):
        endpoint.record_queue_length(waiting)
    assert endpoint.limit == 32
    endpoint.record_queue_length(20)
    assert endpoint.limit == pytest.approx(0.9 * 32)


def test_endpoint_limit_ignores_the_latency_of_lone_requests() -> None:
    endpoint = Endpoint("http://a/v1", max_in_flight=64)
    endpoint.readmit()
    endpoint.record_response(0.5)
    for _ in range(32):
        endpoint.in_flight = int(endpoint.limit)
        endpoint.record_response(8.0)
    assert endpoint.limit == 64
