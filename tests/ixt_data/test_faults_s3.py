"""Each write and list request to S3 fails once: the responses that S3Storage itself resolves."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from s3_server import BUCKET, Proxy, moto
from storage_verbs import VERBS, create_base, run_with_fault

from ixt_data.errors import CommitStateUnknown
from ixt_data.store.store import Store

pytestmark = pytest.mark.faults

FAULTS = {"lost": ("lost", None), "500": ("500", None), "outage": ("lost", "500")}
"""The fault of the n-th request, and of all later ones."""


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("s3")
    with moto() as behind, pytest.MonkeyPatch.context() as patch:
        proxy = Proxy(behind)
        with proxy.running() as address:
            patch.setenv("AWS_ACCESS_KEY_ID", "none")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "none")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            patch.setenv("AWS_ENDPOINT_URL", address)
            # Without retries by boto3, which would hide a single failure.
            patch.setenv("AWS_MAX_ATTEMPTS", "1")
            patch.setenv("IXT_CACHE", str(folder / "cache"))
            patch.setenv("IXT_STATE", str(folder / "state"))
            patch.chdir(folder)
            patch.setattr("ixt_data.critique_runs.leases.is_running", lambda pid, started: False)
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            create_base(f"s3://{BUCKET}/base")
            yield proxy


def copy_of_base() -> str:
    """Copy the base store to a new prefix; return its root."""
    client, prefix = boto3.client("s3"), uuid.uuid4().hex
    items = client.list_objects_v2(Bucket=BUCKET, Prefix="base/")["Contents"]

    def copy(item: dict[str, Any]) -> None:
        source, key = {"Bucket": BUCKET, "Key": item["Key"]}, item["Key"].removeprefix("base/")
        client.copy_object(Bucket=BUCKET, Key=f"{prefix}/{key}", CopySource=source)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(copy, items))
    return f"s3://{BUCKET}/{prefix}"


class NthRequest:
    """The fault of the n-th write or list request, and of all later requests."""

    def __init__(self, first: str, later: str | None, n: int) -> None:
        self.first, self.later, self.n, self.requests = first, later, n, 0

    def __call__(self, method: str, path: str) -> str | None:
        self.requests += method != "GET" or "list-type" in path
        if self.requests > self.n:
            return self.later
        is_nth = self.requests == self.n and (method != "GET" or "list-type" in path)
        return self.first if is_nth else None


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["ingest", "compact", "gc", "tag", "select save"])
def test_verb_with_a_failing_request_loses_nothing(
    name: str, fault: str, proxy: Proxy, record_property: Callable[[str, object], None]
) -> None:
    requests = raised = 0
    while True:
        root = copy_of_base()
        nth = NthRequest(*FAULTS[fault], requests + 1)
        store = Store.open(root)
        proxy.fault = nth
        is_error = run_with_fault(VERBS[name], store, partial(_open_clean, proxy, root))
        if nth.requests <= requests:
            assert not is_error
            break
        requests += 1
        raised += is_error
    record_property("faults", (f"{name} (S3)", fault, requests, raised))


def _open_clean(proxy: Proxy, root: str) -> Store:
    proxy.fault = lambda method, path: None
    return Store.open(root)


def test_commit_without_any_response_has_an_unknown_state(proxy: Proxy, tmp_path: Path) -> None:
    store = Store.open(copy_of_base())

    def fault(method: str, path: str) -> str | None:
        if method == "PUT" and "/_log/" in path:
            proxy.fault = lambda method, path: "500"
            return "lost"
        return None

    proxy.fault = fault
    with pytest.raises(CommitStateUnknown, match=r"look for version \d+ .* in `ixt log`"):
        VERBS["ingest"].run(store)
    clean = _open_clean(proxy, store.root)
    # Its files are retained, because the commit is visible.
    assert VERBS["ingest"].is_complete(clean)
