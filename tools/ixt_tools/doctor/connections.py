"""Connections of this machine: the store, and the servers of judges."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ixt_data.console import format_count
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
from ixt_tools.doctor.machine import check_free_space


def check_store(root: str) -> Iterator[Check]:
    """Check that a store opens, accepts conditional writes, and has free space.

    The check creates two keys under `_probe/` and removes them.
    """
    try:
        store = Store.open(root)
        snapshot = store.snapshot()
    except (IxtError, OSError) as error:
        # The message contains the remedy.
        yield Check("store", "broken", str(error), "if it is damaged: ixt verify")
        return
    documents = sum(corpus.documents for corpus in snapshot.corpora.values())
    yield Check(
        "store", "ok", f"{root}: snapshot {snapshot.version}, {format_count(documents, 'document')}"
    )
    try:
        probe(store.storage)
        yield Check("store: writing", "ok", "conditional writes work")
    except IxtError as error:
        remedy = "reading works; to write, mount the store writable or grant the permissions"
        yield Check("store: writing", "broken", str(error), remedy)
    if isinstance(store.storage, LocalStorage):
        folder = Path(store.root)
        yield check_free_space(
            "store: free space", folder, f"ixt gc --store {root}, or a larger disk"
        )


def check_endpoint(url: str) -> Iterator[Check]:
    """Check that the server of a judge responds, is healthy, and serves a model."""
    yield from asyncio.run(_endpoint(url))


async def _endpoint(url: str) -> list[Check]:
    client, base = Client(os.environ.get("IXT_API_KEY")), server_root(url)
    name = f"endpoint {base}"
    remedy = "start it (vllm serve MODEL --port ...), or correct the address up to /v1"
    try:
        health = await client.get(f"{base}/health")
        models = await client.get(f"{base}/v1/models")
    except (EndpointUnreachable, ConnectionBroken, RequestTimeout) as error:
        return [Check(name, "broken", f"no response: {error}", remedy)]
    finally:
        await client.close()
    checks = []
    if health.status == 404:
        checks.append(Check(name, "warning", "has no /health: is it vLLM?"))
    elif health.status != 200:
        what = f"/health returns {health.status}: the engine has crashed or is starting"
        checks.append(Check(name, "broken", what, "check its log and restart it"))
    checks.append(_check_models(name, models))
    return checks


def _check_models(name: str, response: HttpResponse) -> Check:
    if response.status in (401, 403):
        return Check(
            name, "broken", f"refuses the key: {response.status}", "set IXT_API_KEY to its key"
        )
    content: Any = response.json() if response.status == 200 else None
    try:
        served = [f"{m['id']} ({m.get('max_model_len', '?')} tokens)" for m in content["data"]]
    except (TypeError, KeyError):
        what = f"/v1/models returns {response.status} without a list of models"
        return Check(
            name, "broken", what, "is it an OpenAI-compatible server? The address ends with /v1"
        )
    if not served:
        return Check(name, "broken", "serves no model", "start it with a model")
    return Check(name, "ok", f"serves {', '.join(served)}")
