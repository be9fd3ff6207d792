"""A fake vLLM: a real HTTP server that responds as vLLM does, correctly or with scripted faults.

    python tests/support/fake_vllm.py --port 8123 --plan '{"cut": 0.1}'

A marker in a document (`[[no_answer]]`) selects the behaviour, else chance by the plan's shares.
It also replaces the `vllm` program: `fake_vllm.py serve MODEL --port ...`.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import ssl
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web
from fake_answers import THINKING, choice_for, digits, schema_of
from server_shapes import SHAPES, loose

WORD = re.compile(r"\[\[(\w+)\]\]")
DOCUMENT = re.compile(r"=== document (\w+) begins ===\n(.*)\n=== document \1 ends ===", re.DOTALL)
WAYS = (
    "ok no_answer answer_in_reasoning truncated clamped runaway invalid empty bad_score refused "
    "too_long overload error cut engine_crashed freeze no_choices"
).split()


class Fake:
    """State of the server.

    Args:
        plan: share of requests by behaviour; the others succeed. Other keys: `delay` (maximum in
            seconds), `models`, `context`, `seats` (concurrent requests before 503), `tokenize`
            (false removes the route), `down` (seconds until a crashed engine restarts), `older`
            (the reasoning field is reasoning_content), `digits` (probabilities), `template`,
            `gateway` (a gateway responds for a crashed engine), `engines` (the first is always
            idle), `busy_digits` (number of one-digit requests to refuse),
            `prefers_first` (share of comparisons that the first document wins in any case).
        seed: of the random choices.
    """

    def __init__(self, plan: dict[str, Any], seed: int = 0) -> None:
        self.plan, self.random = plan, random.Random(seed)
        self.requests: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.asked: Counter[str] = Counter()
        self.crashes = self.in_flight = self.max_in_flight = 0
        self.generated = self.largest = 0
        self.crashed_until = 0.0
        self.is_hung = False
        self.shape = SHAPES.get(plan.get("shape", ""))
        self.active_tasks: set[asyncio.Task[Any]] = set()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_get("/health", self.health)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/stats", self.stats)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/props", self.props)
        app.router.add_post("/v1/chat/completions", self.chat)
        if self.plan.get("tokenize", True):
            app.router.add_post("/tokenize", self.tokenize)
            app.router.add_post("/detokenize", self.detokenize)
        return app

    @property
    def is_crashed(self) -> bool:
        return time.monotonic() < self.crashed_until

    async def health(self, request: web.Request) -> web.Response:
        self.requests["health"] += 1
        return web.Response(status=502 if self.is_crashed else 200)

    async def metrics(self, request: web.Request) -> web.Response:
        lines = [f'vllm:num_requests_waiting{{model_name="m"}} {self.plan.get("waiting", 0)}']
        if engines := self.plan.get("engines", 0):
            lines.append('vllm:generation_tokens_total{engine="0"} 0.0')
            self.generated += engines
        lines.append(f'vllm:generation_tokens_total{{model_name="m"}} {self.generated}.0')
        return web.Response(text="\n".join(lines) + "\n")

    async def stats(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "requests": self.requests,
                "crashes": self.crashes,
                "max_in_flight": self.max_in_flight,
            }
        )

    async def props(self, request: web.Request) -> web.Response:
        if self.shape is None or self.shape.props is None:
            return web.Response(status=404)
        return web.json_response(self.shape.props)

    async def respond_plain(self) -> web.Response:
        """Return a completion without logprobs, as a server that ignores them."""
        choice = {"message": {"content": "3"}, "finish_reason": "length"}
        return web.json_response({"choices": [choice], "usage": {}})

    async def models(self, request: web.Request) -> web.Response:
        if self.shape is not None:
            if self.shape.models_status != 200:
                return web.Response(status=self.shape.models_status, text="<html>nothing</html>")
            data = [{"id": "judge", **self.shape.model_fields}]
            return web.json_response({"object": "list", "data": data})
        names = self.plan.get("models", ["judge"])
        context = self.plan.get("context", 32768)
        data = [{"id": name, "object": "model", "max_model_len": context} for name in names]
        return web.json_response({"object": "list", "data": data})

    async def tokenize(self, request: web.Request) -> web.Response:
        self.requests["tokenize"] += 1
        self.largest = max(self.largest, request.content_length or 0)
        body = await request.json()
        tokens = self.tokens(body)
        context = self.plan.get("context", 32768)
        answer = {"count": len(tokens), "max_model_len": context, "tokens": tokens}
        return web.json_response(answer)

    async def detokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        return web.json_response({"prompt": bytes(body["tokens"]).decode(errors="replace")})

    def tokens(self, body: dict[str, Any]) -> list[int]:
        """Return one token per four bytes of a text, or per byte of a short text."""
        if "prompt" in body:
            return list(body["prompt"].encode())
        rendered = "".join(f"<{m['role']}>{m['content']}" for m in body["messages"])
        text = self.plan.get("template", "") + rendered
        data = text.encode()
        return list(data if len(data) < 400 else data[::4])

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        task = asyncio.current_task()
        assert task is not None
        if self.is_crashed:
            # The API server runs, but its engine crashed.
            return self.crashed_response()
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.active_tasks.add(task)
        try:
            return await self.answer(request, body)
        except asyncio.CancelledError:
            if not self.is_crashed:
                raise
            task.uncancel()
            return self.crashed_response()
        finally:
            self.active_tasks.discard(task)
            self.in_flight -= 1

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        user = body["messages"][1]["content"] if len(body["messages"]) > 1 else ""
        if not user:
            self.requests["probe"] += 1
            if self.is_hung:
                await asyncio.sleep(3600)
            return web.json_response({"choices": [], "usage": {}})
        if self.shape is not None and (refused := self.shape.error(body)):
            self.requests["refused"] += 1
            return web.json_response(refused[1], status=refused[0])
        is_trial = "Water boils at 100 degrees" in user
        if body.get("max_tokens") == 1:
            if self.shape is not None or is_trial:
                return (
                    web.json_response(digits(self.plan))
                    if self.shape is None
                    else await self.respond_plain()
                )
            self.requests["digit"] += 1
            if self.requests["digit"] <= self.plan.get("busy_digits", 0):
                return _error(503, "queue is full")
            return web.json_response(digits(self.plan))
        if is_trial:
            self.requests["trial"] += 1
            return await self.respond("ok", request, body, user)
        self.requests["chat"] += 1
        if self.plan.get("keep_bodies"):
            self.bodies.append(body)
        found = DOCUMENT.search(user)
        text = found[2] if found else user
        self.asked[text[:80]] += 1
        if self.in_flight > self.plan.get("seats", 1 << 30):
            self.requests["overload"] += 1
            return _error(503, "queue is full")
        if delay := self.plan.get("delay", 0):
            await asyncio.sleep(self.random.uniform(0, delay))
        way = self.way(text)
        self.requests[f"way_{way}"] += 1
        return await self.respond(way, request, body, text)

    def way(self, text: str) -> str:
        if word := WORD.search(text):
            way = word[1]
            if way.startswith("once_"):
                return way[5:] if self.asked[text[:80]] == 1 else "ok"
            return way
        dice = self.random.random()
        for way in WAYS:
            dice -= self.plan.get(way, 0)
            if dice < 0:
                return way
        return "ok"

    async def respond(
        self, way: str, request: web.Request, body: dict[str, Any], text: str
    ) -> web.StreamResponse:
        schema = schema_of(body)
        if way == "overload":
            return _error(503, "queue is full")
        if way == "error":
            return _error(500, "Internal Server Error")
        if way == "cut":
            assert request.transport is not None
            request.transport.abort()
            await asyncio.sleep(3600)
        if way == "no_choices":
            return web.json_response({"choices": [], "usage": {}})
        if way == "slow":
            await asyncio.sleep(1.2)
        if way == "engine_crashed":
            return self.crash()
        if way == "exit":
            os.kill(os.getpid(), signal.SIGKILL)
        if way in ("freeze", "stall"):
            self.is_hung = way == "freeze"
            await asyncio.sleep(3600)
        if way == "too_long":
            what = "This model's maximum context length is 2048 tokens. However, you requested 9000"
            return _error(400, what, param="input_tokens")
        if way == "bad_schema":
            return _error(400, "Invalid json_schema: grammar could not be compiled")
        if way == "bad_request":
            return _error(400, "something else is wrong")
        n = min(body.get("n", 1), self.shape.choices if self.shape else 99)
        answers = [choice_for(self.plan, way, schema, text, i) for i in range(n)]
        if self.shape is not None:
            for answer in answers:
                said = answer["message"]["content"]
                if way == "loose":
                    said = loose(said)
                answer["message"] = self.shape.message(said, THINKING, self.shape.obeys(body))
        tokens = sum(a.pop("tokens", 120) for a in answers)
        self.generated += tokens
        usage = {"prompt_tokens": len(self.tokens(body)), "completion_tokens": tokens}
        return web.json_response({"id": "x", "choices": answers, "usage": usage})

    def crash(self) -> web.Response:
        """Cancel all requests in flight and crash for a while."""
        self.crashes += 1
        self.crashed_until = time.monotonic() + self.plan.get("down", 0.3)
        me = asyncio.current_task()
        for task in self.active_tasks:
            if task is not me:
                task.cancel()
        return self.crashed_response()

    def crashed_response(self) -> web.Response:
        if self.plan.get("gateway"):
            return _error(502, "Bad Gateway")
        return _error(500, "EngineCore encountered an issue. See stack trace.")


def _error(status: int, message: str, **more: Any) -> web.Response:
    error = {"message": message, "type": "Error", "code": status, **more}
    return web.json_response({"error": error}, status=status)


class Running:
    """A fake server in a thread of this process: `with Running(plan) as fake`."""

    def __init__(
        self,
        plan: dict[str, Any] | None = None,
        seed: int = 0,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.fake, self.port, self.tls = Fake(plan or {}, seed), port, tls

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "Running":
        import threading

        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait(10)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self, ready: Any) -> None:
        asyncio.run(self._main(ready))

    async def _main(self, ready: Any) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        runner = web.AppRunner(self.fake.app(), handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self.tls)
        await site.start()
        self.port = runner.addresses[0][1]
        ready.set()
        await self._stop.wait()
        await runner.cleanup()


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:
        arguments = ["--model", *arguments[1:]]
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--plan", default=os.environ.get("FAKE_PLAN", "{}"))
    parser.add_argument("--model", default="judge")
    parser.add_argument("--served-model-name")
    chosen, _ = parser.parse_known_args(arguments)
    plan = json.loads(chosen.plan)
    plan.setdefault("models", [chosen.served_model_name or chosen.model])
    if record := os.environ.get("FAKE_RECORD"):
        with Path(record).open("a") as file:
            print(json.dumps({"pid": os.getpid(), "arguments": sys.argv[1:]}), file=file)
    if plan.get("worker"):
        # As vLLM's engine: a separate process that outlives its parent.
        import subprocess

        worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        if record:
            with Path(record).open("a") as file:
                print(json.dumps({"pid": worker.pid, "arguments": ["worker"]}), file=file)
    if seconds := plan.get("start"):
        time.sleep(seconds)
    with contextlib.suppress(KeyboardInterrupt):
        web.run_app(
            Fake(plan).app(), host=chosen.host, port=chosen.port, print=None, access_log=None
        )


if __name__ == "__main__":
    main()
