"""Many workers on one critique run: who is at what, who takes over, and who stops."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
from counting_critic import Counting
from faulty_storage import FaultyStorage
from s3_server import BUCKET, Proxy, moto
from small_stores import add_documents

from ixt_data.critique_runs.annotation import annotate
from ixt_data.critique_runs.leases import LEASES_PREFIX, Lease, LeaseConflict, LeaseHeld, Leases
from ixt_data.errors import ConfigError
from ixt_data.maintenance.garbage_collection import collect_garbage
from ixt_data.records import Critique
from ixt_data.store.store import Store

SHORT = 1.5
"""Seconds; a lease is renewed four times in it."""


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IXT_LEASE_SECONDS", str(SHORT))


def leases(store: Store) -> Leases:
    """What another process sees."""
    found = Leases(store.storage, "c-0")
    found.refresh()
    return found


def files(store: Store) -> list[str]:
    return [file.key for file in store.storage.list(LEASES_PREFIX)]


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_lease_has_one_holder(store: Store) -> None:
    early = leases(store)
    with leases(store).acquire("u"):
        with pytest.raises(LeaseHeld):
            leases(store).acquire("u")
        with pytest.raises(LeaseConflict):
            early.acquire("u")
        with early.acquire("v"):
            assert len([key for key in files(store) if key.endswith(".json")]) == 2
    assert files(store) == []
    early.refresh()
    with early.acquire("u"):
        pass


def test_leases_are_acquired_and_released_in_parallel(store: Store) -> None:
    def often(name: int) -> None:
        found = leases(store)
        for i in range(20):
            with found.acquire(f"{name}-{i}"):
                pass

    # The folder that one finds empty and removes is the one that another is about to write to.
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(often, range(4)))
    assert files(store) == []


def test_lease_is_renewed_while_it_is_held(store: Store, short: None) -> None:
    with leases(store).acquire("u") as lease:
        end = time.monotonic() + 1.6 * SHORT
        while time.monotonic() < end:
            with pytest.raises(LeaseHeld):
                leases(store).acquire("u")
            time.sleep(0.05)
        lease.check()


def later(store: Store, seconds: float) -> Leases:
    """What a process with a later clock sees."""
    found = Leases(store.storage, "c-0", lambda: time.time() + seconds)
    found.refresh()
    return found


def test_woken_holder_keeps_the_lease_of_another_worker(store: Store) -> None:
    suspended = leases(store).acquire("u")
    second = later(store, 100).acquire("u")
    second.release()
    third = leases(store).acquire("u")
    # All files of the earlier terms were deleted, so the key is the same.
    assert third.key == suspended.key
    assert suspended.is_superseded()
    suspended.release()
    assert store.storage.read(third.key) == third.content
    assert not third.is_superseded()
    third.release()
    assert files(store) == []


def test_renewal_never_overwrites_a_term(store: Store, short: None) -> None:
    with leases(store).acquire("u") as lease:
        until(lambda: len([key for key in files(store) if key.endswith(".json")]) == 2)
        assert store.storage.read(lease.key) == lease.content
        # The renewal of a woken holder is not a renewal of the term that replaced its own.
        store.storage.replace(lease.key.replace(".json", ".other.json"), lease.record())
        with pytest.raises(LeaseHeld):
            later(store, SHORT / 2).acquire("u")
        later(store, 100).acquire("u").release()
    assert [key for key in files(store) if "other" not in key] == []


def test_renewal_of_a_deleted_term_is_ignored(store: Store) -> None:
    lease = leases(store).acquire("u")
    stray = lease.key.replace(".000001.json", ".000002.other.json")
    store.storage.replace(stray, lease.record())
    with pytest.raises(LeaseHeld):
        leases(store).acquire("u")
    later(store, 100).acquire("u").release()
    assert files(store) == [stray]
    leases(store).acquire("u").release()
    assert collect_garbage(store, grace=timedelta(days=-1)).deleted.keys() == {stray}


def test_lost_response_of_a_lease_is_read_back(store: Store) -> None:
    storage = FaultyStorage(store.root, "lost", 3)
    found = Leases(storage, "c-0")
    found.refresh()
    with found.acquire("u"):
        assert storage.calls == 4
    assert files(store) == []


def stop_renewing(lease: Lease) -> None:
    lease._stop.set()
    lease._thread.join()


def test_expired_lease_is_taken_over_and_its_holder_stops(store: Store, short: None) -> None:
    first = leases(store).acquire("u")
    time.sleep(1.1 * SHORT)
    with leases(store).acquire("u"), first:
        # It wakes up, and finds out.
        until(first._lost.is_set)
        with pytest.raises(LeaseHeld):
            first.check()
        with pytest.raises(LeaseHeld):
            leases(store).acquire("u")
        terms = [key for key in files(store) if key.count(".") == 2]
        assert len(terms) == 2
    assert files(store) == []


def test_lease_of_a_crashed_local_worker_is_free_at_once(store: Store) -> None:
    code = (
        "import os, sys; from ixt_data.critique_runs.leases import Leases\n"
        "from ixt_data.store import Store\n"
        "Leases(Store.open(sys.argv[1]).storage, 'c-0').acquire('u').__enter__()\n"
        "print('taken', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, store.root]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"taken\n"
        with pytest.raises(LeaseHeld):
            leases(store).acquire("u")
        holder.kill()
        holder.wait()
        with leases(store).acquire("u") as lease:
            assert lease.key.endswith(".000002.json")
    assert files(store) == []


def test_lease_of_another_machine_must_expire(store: Store, short: None) -> None:
    first = leases(store).acquire("u")
    record = json.loads(first.record())
    store.storage.replace(first.key, json.dumps(record | {"machine": "x", "pid": 0}).encode())
    with pytest.raises(LeaseHeld):
        leases(store).acquire("u")
    time.sleep(1.1 * SHORT)
    with leases(store).acquire("u"):
        pass


def test_clock_a_year_ahead_blocks_no_longer_than_a_lease(
    store: Store, short: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ixt_data.critique_runs.leases.machine_id", lambda: "elsewhere")
    ahead = Leases(store.storage, "c-0", lambda: time.time() + 365 * 86400)
    lease = ahead.acquire("u")
    monkeypatch.undo()
    monkeypatch.setenv("IXT_LEASE_SECONDS", str(SHORT))
    found = leases(store)
    with pytest.raises(LeaseHeld):
        found.acquire("u")
    found.report_waiting(["v", "u"])
    # The end of a run with several workers is a short wait, which needs no report.
    assert "waiting for" not in caplog.text
    monkeypatch.setattr("ixt_data.critique_runs.leases.REPORT_SECONDS", 0.0)
    found = leases(store)
    with pytest.raises(LeaseHeld):
        found.acquire("u")
    found.report_waiting(["v", "u"])
    assert re.search(
        r"waiting for 2 units .*; process \d+ on \S+ holds one for [12] s", caplog.text
    )
    until(lambda: not leases(store).is_held("u"), 3 * SHORT)
    with leases(store).acquire("u"):
        assert lease.is_superseded()


def test_wrong_lease_seconds_are_reported(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IXT_LEASE_SECONDS", "a minute")
    with pytest.raises(ConfigError, match="'a minute' must be a number of seconds"):
        leases(store)


def test_garbage_collection_deletes_expired_leases(store: Store, short: None) -> None:
    def collected(grace: float) -> list[str]:
        return [*collect_garbage(store, grace=timedelta(seconds=grace)).deleted]

    dead = leases(store).acquire("u")
    with leases(store).acquire("v") as alive:
        time.sleep(1.1 * SHORT)
        with leases(store).acquire("u") as second:
            assert collected(0) == []
            stop_renewing(second)
            time.sleep(1.1 * SHORT)
            assert collected(3600) == []
            assert set(collected(0)) == {dead.key, second.key}
        alive.check()


def test_worker_that_lost_its_lease_stops(store: Store, short: None) -> None:
    add_documents(store, [f"text {i}" for i in range(40)], per_shard=20)
    critic = Counting(pause=0.02)

    def lose_lease(done: int, critique: Critique) -> None:
        if len(critic.asked) == 3:
            (key,) = files(store)
            later = key.replace(".000001.", ".000002.")
            store.storage.create(later, store.storage.read(key))

    report = annotate(store, "web", critic, lose_lease)
    # It does the other unit, and then this one, whose new holder never renewed its lease.
    assert (report.units, report.documents, dict(report.statuses)) == (2, 40, {"ok": 40})
    assert 40 < len(critic.asked) < 60
    assert files(store) == []


WORKER = """
import sys
from counting_critic import Counting
from faulty_storage import FaultyStorage
from ixt_data.critique_runs.annotation import annotate
from ixt_data.store.store import Store

critic = Counting(pause=float(sys.argv[2]))
annotate(Store.open(sys.argv[1]), "web", critic, lambda done, critique: print(done, flush=True))
print("asked", len(critic.asked), flush=True)
"""


def worker(store: Store, pause: float) -> "subprocess.Popen[str]":
    paths = [str(Path(__file__).parents[2] / "support"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", WORKER, store.root, str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def asked(process: "subprocess.Popen[str]") -> int:
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return int(out.split("asked ")[1])


def exact(store: Store, documents: int, units: int) -> None:
    """Every document has one row, and every unit was published once."""
    sql = "SELECT count(*) AS n, count(DISTINCT (doc_id, critic)) AS d FROM critiques_all"
    assert store.sql(sql).arrow().to_pylist() == [{"n": documents, "d": documents}]
    assert store.snapshot().version == 1 + units
    assert files(store) == []


def test_workers_share_the_units_without_duplicates(store: Store) -> None:
    add_documents(store, [f"text {i}" for i in range(120)], per_shard=5)
    workers = [worker(store, pause=0.01) for _ in range(3)]
    shares = [asked(process) for process in workers]
    assert sum(shares) == 120
    exact(store, 120, 24)


def test_hung_worker_is_superseded_and_publishes_nothing_twice(store: Store, short: None) -> None:
    add_documents(store, [f"text {i}" for i in range(60)], per_shard=20)
    frozen = worker(store, pause=0.02)
    assert frozen.stdout is not None
    for _ in range(5):
        frozen.stdout.readline()
    frozen.send_signal(signal.SIGSTOP)
    report = annotate(store, "web", Counting())
    assert (report.units, report.documents) == (3, 60)
    frozen.send_signal(signal.SIGCONT)
    assert asked(frozen) < 60
    exact(store, 60, 3)


@pytest.fixture
def on_s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("IXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IXT_STATE", str(tmp_path / "state"))
    with moto() as behind:
        # It lets one conditional write through at a time, as S3 does.
        proxy = Proxy(behind)
        with proxy.running() as address:
            monkeypatch.setenv("AWS_ENDPOINT_URL", address)
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            yield proxy


@pytest.mark.slow
def test_workers_share_a_store_on_s3(on_s3: Proxy) -> None:
    store = Store.init(f"s3://{BUCKET}/shared")
    add_documents(store, [f"text {i}" for i in range(60)], per_shard=5)
    workers = [worker(store, pause=0.02) for _ in range(2)]
    assert sum(asked(process) for process in workers) == 60
    exact(store, 60, 12)


@pytest.mark.slow
def test_crashed_worker_is_replaced_on_s3(on_s3: Proxy, short: None) -> None:
    store = Store.init(f"s3://{BUCKET}/dead")
    add_documents(store, [f"text {i}" for i in range(20)], per_shard=10)
    frozen = worker(store, pause=0.05)
    assert frozen.stdout is not None
    frozen.stdout.readline()
    frozen.send_signal(signal.SIGSTOP)
    report = annotate(store, "web", Counting())
    assert (report.units, report.documents) == (2, 20)
    frozen.send_signal(signal.SIGCONT)
    assert asked(frozen) < 20
    exact(store, 20, 2)


def test_unit_needs_few_requests_on_s3(on_s3: Proxy) -> None:
    store = Store.init(f"s3://{BUCKET}/few")
    found = leases(store)
    on_s3.seen.clear()
    with found.acquire("u"):
        pass
    assert on_s3.seen == {"PUT": 1, "GET": 2, "DELETE": 1}
