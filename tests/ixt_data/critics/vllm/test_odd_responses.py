"""Responses that no server should give, and what a critique run makes of them."""

import asyncio
import dataclasses
import json
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web
from fake_vllm import Fake, Running
from judging import PLAIN, QUICK, document, judged

from ixt_data.critics.vllm.client import Client, check_endpoints
from ixt_data.critics.vllm.critic import VllmCritic
from ixt_data.errors import CriticError

Change = Callable[[web.Request, web.Response], Any]


class Odd(Running):
    """A fake server whose first responses to documents are changed."""

    def __init__(self, change: Change, first: int = 1, at_trial: bool = False) -> None:
        super().__init__({"tokenize": False})
        self.fake = OddFake({"tokenize": False}, change, first, at_trial)


class OddFake(Fake):
    def __init__(self, plan: dict[str, Any], change: Change, first: int, at_trial: bool) -> None:
        super().__init__(plan)
        self.change, self.left, self.at_trial = change, first, at_trial

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = await super().answer(request, body)
        is_trial = "Water boils at 100 degrees" in body["messages"][-1]["content"]
        if is_trial is not self.at_trial or self.left <= 0:
            return response
        self.left -= 1
        assert isinstance(response, web.Response)
        changed = self.change(request, response)
        return await changed if asyncio.iscoroutine(changed) else changed  # type: ignore[no-any-return]


def error_object(code: object) -> Change:
    return lambda request, response: web.json_response(
        {"error": {"message": "upstream is busy", "code": code}}
    )


def refusal(status: int, **headers: str) -> Change:
    return lambda request, response: web.Response(status=status, text="later", headers=headers)


async def half(request: web.Request, response: web.Response) -> web.StreamResponse:
    """Send half of a body, then break the connection."""
    assert isinstance(response.body, bytes)
    broken = web.StreamResponse()
    broken.content_length = len(response.body)
    await broken.prepare(request)
    await broken.write(response.body[: len(response.body) // 2])
    assert request.transport is not None
    request.transport.abort()
    return broken


def stream(request: web.Request, response: web.Response) -> web.Response:
    text = 'data: {"choices": [{"delta": {"content": "{"}}]}\n\ndata: [DONE]\n\n'
    return web.Response(text=text, content_type="text/event-stream")


def finish_with_error(request: web.Request, response: web.Response) -> web.Response:
    choice = {"message": {"content": "half of"}, "finish_reason": "error"}
    return web.json_response({"choices": [choice | {"error": {"message": "upstream"}}]})


def cut_surrogate(request: web.Request, response: web.Response) -> web.Response:
    """Give an answer whose critique ends with half of a surrogate pair, in the outer JSON."""
    assert response.text is not None
    text = response.text.replace("characters.", "characters \\ud83d.")
    return web.Response(text=text, content_type="application/json")


@pytest.mark.parametrize(
    ("change", "attempts"),
    [
        (error_object(429), 1),
        (error_object(502), 2),
        (error_object("overloaded"), 2),
        (refusal(429), 1),
        (refusal(529), 1),
        (half, 2),
        (stream, 2),
        (finish_with_error, 2),
        (cut_surrogate, 1),
    ],
)
def test_document_is_requested_again(change: Change, attempts: int) -> None:
    with Odd(change) as server:
        (critique,) = judged(server, "A page.")
    assert (critique.status, critique.attempts) == ("ok", attempts)
    assert critique.critique.encode()


def test_error_object_that_stays_is_the_documents_error() -> None:
    with Odd(error_object(502), first=9) as server:
        (critique,) = judged(server, "A page.")
    assert (critique.status, critique.attempts) == ("server_crashed", 3)
    assert critique.error == "HTTP 502: upstream is busy"


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_pause_is_at_least_what_the_server_wants(form: str) -> None:
    value = "2" if form == "seconds" else formatdate(time.time() + 2.9, usegmt=True)
    timeouts = dataclasses.replace(QUICK, request_seconds=10.0, no_server_seconds=10.0)
    with (
        Odd(refusal(429, **{"Retry-After": value})) as server,
        VllmCritic(server.url, "judge", sampling=PLAIN, timeouts=timeouts) as critic,
    ):
        critic.connect()
        start = time.monotonic()
        (critique,) = critic.run([document("A page.")])
        assert 1.5 < time.monotonic() - start < 8
    assert (critique.status, critique.attempts) == ("ok", 1)


@pytest.mark.parametrize("value", ["soon", "-3", "inf", "nan", "", "Thu, 99 Foo 2026"])
def test_pause_that_is_not_readable_is_ignored(value: str) -> None:
    with Odd(refusal(503, **{"Retry-After": value})) as server:
        (critique,) = judged(server, "A page.")
    assert (critique.status, critique.attempts) == ("ok", 1)


def test_stream_at_the_trial_is_an_error_with_its_cause() -> None:
    with (
        Odd(stream, first=9, at_trial=True) as server,
        pytest.raises(CriticError, match="streams its response, though no stream was asked for"),
    ):
        judged(server, "A page.")


def test_model_that_changes_stops_the_run() -> None:
    names = iter(["judge-2026-01", "judge-2026-01", "judge-2026-11"])

    def renamed(request: web.Request, response: web.Response) -> web.Response:
        assert response.text is not None
        return web.json_response(json.loads(response.text) | {"model": next(names)})

    with (
        Odd(renamed, first=3) as server,
        VllmCritic(server.url, "judge", sampling=PLAIN, timeouts=QUICK, concurrency=1) as critic,
    ):
        results = critic.run(document(f"page {i}") for i in range(9))
        assert [next(results).status, next(results).status] == ["ok", "ok"]
        with pytest.raises(CriticError, match="the model 'judge-2026-11'; before, it was 'judge"):
            next(results)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("127.0.0.1:8000/v1", "is not an address"),
        ("ftp://host/v1", "is not an address"),
        ("", "is not an address"),
        ("http://", "is not an address"),
        ("http://host:99999/v1", "is not an address"),
        ("http://[::1/v1", "is not an address"),
        ("https://user:secret@host/v1", "https://host/v1: the address has a key in it"),
        ("https://host/v1?api-version=1&key=secret", "give the address up to /v1"),
        ("https://host/v1/chat/completions", "give the address up to /v1"),
    ],
)
def test_address_that_is_wrong_is_refused(url: str, what: str) -> None:
    with pytest.raises(CriticError, match=what) as caught:
        VllmCritic([url], "judge")
    assert "secret" not in str(caught.value)


def test_addresses_are_normalized_and_distinct() -> None:
    assert check_endpoints(["http://[::1]:8000/v1/", " http://b/v1 "]) == [
        "http://[::1]:8000/v1",
        "http://b/v1",
    ]
    with pytest.raises(CriticError, match="http://b/v1 is given twice"):
        VllmCritic("http://b/v1,http://b/v1/", "judge")


@pytest.mark.parametrize("key", ["sk-a\nX-Evil: 1", "sk a", "sk-é", "sk\x00"])
def test_key_that_is_not_one_word_is_refused(key: str) -> None:
    with pytest.raises(CriticError, match="IXT_API_KEY: must contain one key") as caught:
        VllmCritic("http://127.0.0.1:1/v1", "judge", api_key=key)
    assert "Evil" not in str(caught.value)


def test_server_at_an_ipv6_address_is_reached() -> None:
    async def serve_and_get() -> int:
        runner = web.AppRunner(Fake({}).app())
        await runner.setup()
        await web.TCPSite(runner, "::1", 0).start()
        client = Client()
        try:
            (url,) = check_endpoints([f"http://[::1]:{runner.addresses[0][1]}/v1/"])
            return (await client.get(f"{url}/models")).status
        finally:
            await client.close()
            await runner.cleanup()

    assert asyncio.run(serve_and_get()) == 200
