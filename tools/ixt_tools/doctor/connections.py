"""What is reached from this machine: the store, and servers of judges."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ixt_data.critics import (
    Client,
    ConnectionBroken,
    EndpointUnreachable,
    HttpResponse,
    RequestTimeout,
    server_root,
)
from ixt_data.errors import IxtError
from ixt_data.storage import LocalStorage, probe
from ixt_data.store import Store
from ixt_tools.doctor.check import Check
from ixt_tools.doctor.machine import check_room


def check_store(root: str) -> Iterator[Check]:
    """Whether a store opens, can be written to as it needs, and has room.

    Two keys are created under `_probe/` and removed again.
    """
    try:
        store = Store.open(root)
        snapshot = store.snapshot()
    except (IxtError, OSError) as error:
        # The message has the remedy.
        yield Check("store", "broken", str(error), "ixt verify tells more if it is damaged")
        return
    documents = sum(corpus.documents for corpus in snapshot.corpora.values())
    yield Check("store", "ok", f"{root}: snapshot {snapshot.version}, {documents:,} documents")
    try:
        probe(store.storage)
        yield Check("store: writing", "ok", "keys are created only if they are absent")
    except IxtError as error:
        remedy = "to read it is enough as it is; to write, mount it writable or give the rights"
        yield Check("store: writing", "broken", str(error), remedy)
    if isinstance(store.storage, LocalStorage):
        folder = Path(store.root)
        yield check_room("store: room", folder, f"ixt gc --store {root}, or a larger disk")


def check_endpoint(url: str) -> Iterator[Check]:
    """Whether a judge's server is there, well, and serves a model."""
    yield from asyncio.run(_endpoint(url))


async def _endpoint(url: str) -> list[Check]:
    client, base = Client(os.environ.get("IXT_API_KEY")), server_root(url)
    name = f"endpoint {base}"
    remedy = "start it (vllm serve MODEL --port ...), or correct the address up to /v1"
    try:
        health = await client.get(f"{base}/health")
        models = await client.get(f"{base}/v1/models")
    except (EndpointUnreachable, ConnectionBroken, RequestTimeout) as error:
        return [Check(name, "broken", f"no answer: {error}", remedy)]
    finally:
        await client.close()
    found = []
    if health.status == 404:
        found.append(Check(name, "warning", "has no /health: is it vLLM?"))
    elif health.status != 200:
        what = f"/health answers {health.status}: the engine has died or is starting"
        found.append(Check(name, "broken", what, "look at its log, and start it again"))
    found.append(_models(name, models))
    return found


def _models(name: str, reply: HttpResponse) -> Check:
    if reply.status in (401, 403):
        return Check(name, "broken", f"refuses: {reply.status}", "set IXT_API_KEY to its key")
    answer: Any = reply.json() if reply.status == 200 else None
    try:
        served = [f"{m['id']} ({m.get('max_model_len', '?')} tokens)" for m in answer["data"]]
    except (TypeError, KeyError):
        what = f"/v1/models answers {reply.status} and no list of models"
        return Check(name, "broken", what, "is it an OpenAI-compatible server? Give it up to /v1")
    if not served:
        return Check(name, "broken", "serves no model", "start it with a model")
    return Check(name, "ok", f"serves {', '.join(served)}")
