"""A vendor's batch API: a real HTTP server that takes files of requests and runs batches of them.

It is a `fake_vllm.Fake` with the routes `/v1/files` and `/v1/batches`. A batch is run when it was
looked at often enough. A step can be held: the server has done it, and its client gets no response.
"""

import asyncio
import json
import threading
from typing import Any

from aiohttp import web
from fake_vllm import Fake, Running


class BatchFake(Fake):
    """State of the server; further keys of the plan.

    `polls` (looks at a batch until it ends), `ends` (its last status, by default `completed`),
    `run_share` (share of the requests that are run; the others are in no file), `expire` (the
    others are in the error file), `lose_create` (the first responses to a creation that are HTTP
    500, though the batch exists), `busy` (first responses that are HTTP 503), `page` (batches per
    page of a list), `blank` (requests whose first response in a file has no HTTP status, as
    OpenAI's have been seen), `cancelling` (looks at a batch that say so before its end). The lines
    of a file are in another order than the requests, between blank and foreign ones.
    """

    def __init__(self, plan: dict[str, Any], seed: int = 0) -> None:
        super().__init__(plan, seed)
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.looks: dict[str, int] = {}
        self.holds: dict[str, threading.Event] = {}

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_post("/v1/files", self.upload)
        app.router.add_get("/v1/files/{id}/content", self.content)
        app.router.add_post("/v1/batches", self.create)
        app.router.add_get("/v1/batches", self.list_batches)
        app.router.add_get("/v1/batches/{id}", self.look)
        return app

    def hold(self, step: str) -> threading.Event:
        """Hold the next response of a step; return an event that is set when it is held."""
        self.holds[step] = threading.Event()
        return self.holds[step]

    async def held(self, step: str) -> None:
        if (event := self.holds.pop(step, None)) is not None:
            event.set()
            await asyncio.sleep(3600)

    def busy(self, step: str) -> web.Response | None:
        self.requests[step] += 1
        if self.requests[step] <= self.plan.get("busy", 0):
            return web.json_response({"error": {"message": "later"}}, status=503)
        return None

    async def upload(self, request: web.Request) -> web.Response:
        if (busy := self.busy("upload")) is not None:
            return busy
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        assert form["purpose"] == "batch"
        name = f"file-{len(self.files)}"
        self.files[name] = file.file.read()
        await self.held("upload")
        return web.json_response({"id": name, "object": "file", "bytes": len(self.files[name])})

    async def create(self, request: web.Request) -> web.Response:
        if (busy := self.busy("create")) is not None:
            return busy
        body = await request.json()
        assert body["endpoint"] == "/v1/chat/completions"
        assert body["completion_window"] == "24h"
        name = f"batch_{len(self.batches)}"
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "status": "validating",
            "input_file_id": body["input_file_id"],
            "metadata": body["metadata"],
        }
        self.looks[name] = 0
        if len(self.batches) <= self.plan.get("lose_create", 0):
            return web.json_response({"error": {"message": "gateway"}}, status=500)
        await self.held("create")
        return web.json_response(self.batches[name])

    async def list_batches(self, request: web.Request) -> web.Response:
        self.requests["list"] += 1
        names = list(reversed(self.batches))
        after = request.query.get("after")
        start = names.index(after) + 1 if after else 0
        end = start + self.plan.get("page", 20)
        data = [self.batches[name] for name in names[start:end]]
        return web.json_response({"object": "list", "data": data, "has_more": end < len(names)})

    async def look(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        self.looks[batch["id"]] += 1
        looks, polls = self.looks[batch["id"]], self.plan.get("polls", 1)
        if polls < looks <= polls + self.plan.get("cancelling", 0):
            batch["status"] = "cancelling"
        elif looks > polls:
            await self.finish(request, batch)
        elif batch["status"] == "validating":
            batch["status"] = "in_progress"
        await self.held("look")
        return web.json_response(batch)

    async def finish(self, request: web.Request, batch: dict[str, Any]) -> None:
        """Run the requests of a batch once, and write its files."""
        if "output_file_id" in batch:
            return
        batch["status"] = self.plan.get("ends", "completed")
        if batch["status"] == "failed":
            batch["errors"] = {"data": [{"code": "limit", "message": "too many tokens enqueued"}]}
            return
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        n = round(len(lines) * self.plan.get("run_share", 1))
        output, errors = [], []
        for i, line in enumerate(lines):
            record: dict[str, Any] = {"id": f"r{i}", "custom_id": line["custom_id"]}
            if i >= n:
                if self.plan.get("expire"):
                    error = {"code": "batch_expired", "message": "it was not run in time"}
                    errors.append(record | {"response": None, "error": error})
                continue
            reply = await self.answer(request, line["body"])
            assert isinstance(reply, web.Response)
            response = {"status_code": reply.status, "body": json.loads(reply.text or "")}
            if self.requests["blank"] < self.plan.get("blank", 0):
                self.requests["blank"] += 1
                response = {"status_code": 0, "request_id": "", "body": None}
            target = output if reply.status == 200 else errors
            target.append(record | {"response": response, "error": None})
        for key, records in (("output_file_id", output), ("error_file_id", errors)):
            if records:
                batch[key] = f"file-{len(self.files)}"
                self.random.shuffle(records)
                foreign = records[0] | {"custom_id": f"{'0' * 32}-0"}
                lines = ["", json.dumps(foreign), *map(json.dumps, records), "", "not JSON"]
                self.files[batch[key]] = "\n".join(lines).encode()
        batch.setdefault("output_file_id", None)

    async def content(self, request: web.Request) -> web.StreamResponse:
        if (busy := self.busy("content")) is not None:
            return busy
        data = self.files[request.match_info["id"]]
        response = web.StreamResponse()
        response.content_length = len(data)
        await response.prepare(request)
        await response.write(data[: len(data) // 2])
        await self.held("content")
        await response.write(data[len(data) // 2 :])
        return response

    def submitted(self) -> list[str]:
        """Return the custom ids of all batches, one per request that was paid."""
        return [
            json.loads(line)["custom_id"]
            for batch in self.batches.values()
            for line in self.files[batch["input_file_id"]].splitlines()
        ]


class RunningBatches(Running):
    """The server in a thread: `with RunningBatches(plan) as server`, its state is `server.fake`."""

    fake: BatchFake

    def __init__(self, plan: dict[str, Any] | None = None) -> None:
        super().__init__(plan)
        self.fake = BatchFake(plan or {})
