"""The pool of servers: waiting tasks, reservations, and the timeout without a server."""

import asyncio
import gc

import pytest

from ixt_data.critics.vllm.client import Client
from ixt_data.critics.vllm.endpoint import Endpoint
from ixt_data.critics.vllm.endpoint_pool import EndpointPool, Timeouts
from ixt_data.errors import CriticError


async def no_check(endpoint: Endpoint) -> None:
    return None


def make_pool(max_in_flight: int = 1, servers: int = 1, **timeouts: float) -> EndpointPool:
    urls = [f"http://127.0.0.1:{9 + i}/v1" for i in range(servers)]
    return EndpointPool(urls, Client(None), max_in_flight, Timeouts(**timeouts), no_check)


def futures() -> int:
    return sum(isinstance(one, asyncio.Future) for one in gc.get_objects())


async def wait_without_a_server() -> None:
    pool = make_pool()
    pool.all[0].pause("down")
    tasks = [asyncio.ensure_future(pool.acquire()) for _ in range(50)]
    await asyncio.sleep(0.1)
    before = futures()
    for _ in range(20):
        pool.all[0].pause("down")
        await asyncio.sleep(0.01)
    gc.collect()
    assert len(pool._waiters) == 50
    assert futures() <= before + 5
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(pool._waiters) == 0


def test_waiting_tasks_leak_no_futures_while_all_servers_are_down() -> None:
    asyncio.run(wait_without_a_server())


def test_release_wakes_the_task_that_waits_longest() -> None:
    async def body() -> None:
        pool = make_pool()
        pool.all[0].readmit()
        order: list[int] = []

        async def work(number: int) -> None:
            endpoint = await pool.acquire()
            order.append(number)
            await asyncio.sleep(0)
            pool.release(endpoint, exclusive=False)

        await asyncio.gather(*(work(number) for number in range(20)))
        assert order == list(range(20))
        assert pool.all[0].in_flight == 0

    asyncio.run(asyncio.wait_for(body(), 5))


def test_readmitted_server_serves_all_waiting_tasks() -> None:
    async def body() -> None:
        pool = make_pool(max_in_flight=8)
        pool.all[0].pause("down")
        tasks = [asyncio.ensure_future(pool.acquire()) for _ in range(8)]
        await asyncio.sleep(0.01)
        pool.all[0].readmit()
        done, _ = await asyncio.wait(tasks, timeout=0.5)
        assert len(done) == 8

    asyncio.run(body())


@pytest.mark.parametrize("cancelled_while", ["waiting", "reserved"])
def test_cancelled_exclusive_request_releases_its_server(cancelled_while: str) -> None:
    async def body() -> None:
        pool = make_pool(max_in_flight=2)
        pool.all[0].readmit()
        held = await pool.acquire() if cancelled_while == "waiting" else None
        if held is None:
            pool.all[0].record_refusal()
        task = asyncio.ensure_future(pool.acquire_exclusive())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if held is not None:
            pool.release(held, exclusive=False)
        assert not pool.all[0].is_reserved
        other = await asyncio.wait_for(pool.acquire(), 2)
        pool.release(other, exclusive=False)
        alone = await asyncio.wait_for(pool.acquire_exclusive(), 2)
        pool.release(alone, exclusive=True)

    asyncio.run(body())


def test_no_usable_server_ends_the_run_for_every_task() -> None:
    async def body() -> None:
        pool = make_pool(no_server_seconds=0.05)
        pool.all[0].pause("connection refused")
        results = await asyncio.gather(*(pool.acquire() for _ in range(3)), return_exceptions=True)
        assert all(isinstance(error, CriticError) for error in results)
        assert "no server is usable for 0.05 s" in str(results[0])

    asyncio.run(asyncio.wait_for(body(), 10))


def test_fatal_error_reaches_waiting_tasks() -> None:
    async def body() -> None:
        pool = make_pool()
        pool.all[0].pause("down")
        task = asyncio.ensure_future(pool.acquire())
        await asyncio.sleep(0.01)
        pool.fail(CriticError("another judge"))
        with pytest.raises(CriticError, match="another judge"):
            await asyncio.wait_for(task, 0.5)

    asyncio.run(body())
