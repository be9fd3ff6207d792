"""A judge behind a batch API: every document once, whatever the server or the process does."""

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from batch_server import RunningBatches
from command_line import as_json, ixt
from critique_processes import command, start
from fake_vllm import Running
from judging import document

from ixt_data.critics.vllm.batch_critic import BatchCritic
from ixt_data.critics.vllm.endpoint_pool import Timeouts
from ixt_data.critics.vllm.prompts import JudgeSampling
from ixt_data.critics.vllm.spending import SpendingLimits
from ixt_data.errors import CriticError
from ixt_data.records import Critique
from ixt_data.store.store import Store

PAGES = [f"page {i} of a book" for i in range(25)]
QUICK = Timeouts(request_seconds=5, no_server_seconds=2)


def critic(server: RunningBatches, folder: Path, **options: Any) -> BatchCritic:
    sampling = {"expected": False, "max_tokens": 200} | options.pop("sampling", {})
    return BatchCritic(
        str(folder / "batches"),
        batch_requests=options.pop("batch_requests", 10),
        poll_seconds=0.01,
        endpoints=server.url,
        model="judge",
        sampling=JudgeSampling(**sampling),
        **{"timeouts": QUICK} | options,
    )


def judged(
    server: RunningBatches, folder: Path, texts: list[str] = PAGES, **options: Any
) -> list[Critique]:
    with critic(server, folder, **options) as judge:
        return list(judge.run(map(document, texts)))


def left(folder: Path) -> list[str]:
    return [path.name for path in (folder / "batches").rglob("*") if path.is_file()]


def test_each_document_is_judged_once_in_batches(tmp_path: Path) -> None:
    with RunningBatches({"polls": 2, "page": 1}) as server:
        with critic(server, tmp_path) as judge:
            found = list(judge.run(map(document, PAGES)))
            usage = judge.usage
        assert {one.doc_id for one in found} == {document(text).doc_id for text in PAGES}
        assert {one.status for one in found} == {"ok"}
        assert len(server.fake.batches) == 3
        assert len(set(server.fake.submitted())) == 25
        assert server.fake.requests["chat"] == usage["requests"] == 25
        assert (usage["tokens_out"], usage["retries"]) == (25 * 120, 0)
    assert left(tmp_path) == []


def test_critiques_and_id_are_those_of_single_requests(tmp_path: Path) -> None:
    from judging import judged as judged_singly

    with RunningBatches() as server, critic(server, tmp_path) as judge:
        batched = {one.doc_id: one for one in judge.run(map(document, PAGES))}
        config = judge.config()
    sampling = JudgeSampling(expected=False, max_tokens=200)
    with Running() as fake:
        singly = judged_singly(fake, *PAGES, sampling=sampling)
    assert [batched[one.doc_id] for one in singly] == singly
    assert (config["critic"], config["sampling"]) == ("vllm", sampling.to_json())


def test_failures_are_retried_in_a_later_batch(tmp_path: Path) -> None:
    texts = ["[[once_invalid]] a", "[[invalid]] b", "[[refused]] c", "[[once_error]] d", "fine"]
    with RunningBatches() as server:
        found = judged(server, tmp_path, texts)
        attempts = Counter(one.partition("-")[0] for one in server.fake.submitted())
    by_id = {one.doc_id: one for one in found}
    critiques = [by_id[document(text).doc_id] for text in texts]
    assert [one.status for one in critiques] == ["ok", "invalid", "refused", "ok", "ok"]
    assert [one.attempts for one in critiques] == [2, 3, 1, 2, 1]
    assert [attempts[document(text).doc_id.hex()] for text in texts] == [2, 3, 1, 2, 1]


@pytest.mark.parametrize("expire", [True, False])
def test_requests_of_an_expired_batch_are_submitted_again(tmp_path: Path, expire: bool) -> None:
    with RunningBatches({"ends": "expired", "run_share": 0.6, "expire": expire}) as server:
        found = judged(server, tmp_path)
        assert {one.status for one in found} == {"ok", "timeout"}
        assert sum(one.status == "ok" for one in found) >= 20
        late = next(one for one in found if one.status == "timeout")
        assert late.attempts == 3
        assert ("not run in time" if expire else "without a response") in (late.error or "")


def test_response_without_a_status_is_requested_again(tmp_path: Path) -> None:
    with RunningBatches({"blank": 3}) as server:
        found = judged(server, tmp_path)
    assert {one.status for one in found} == {"ok"}
    assert Counter(one.attempts for one in found) == {1: 22, 2: 3}


def test_batch_that_is_being_cancelled_is_waited_for(tmp_path: Path) -> None:
    plan = {"cancelling": 3, "ends": "cancelled", "run_share": 0.5}
    with RunningBatches(plan) as server, critic(server, tmp_path, batch_requests=25) as judge:
        taken: list[Critique] = []
        with pytest.raises(CriticError, match="was cancelled"):
            _take(judge, taken)
        assert len(taken) == 12
        assert server.fake.looks["batch_0"] > 4


def test_file_of_requests_has_a_bound_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = 40_000
    monkeypatch.setattr("ixt_data.critics.vllm.batch_run.MAX_BATCH_BYTES", bound)
    with RunningBatches() as server:
        found = judged(server, tmp_path, batch_requests=25)
        sent = [server.fake.files[one["input_file_id"]] for one in server.fake.batches.values()]
        assert len(server.fake.submitted()) == 25
    assert {one.status for one in found} == {"ok"}
    assert len(sent) > 2
    longest = max(len(line) + 1 for file in sent for line in file.splitlines())
    assert all(len(file) <= bound + longest for file in sent)


def test_batch_that_failed_or_was_cancelled_stops_the_run(tmp_path: Path) -> None:
    with RunningBatches({"ends": "failed"}) as server:
        with pytest.raises(CriticError, match="batch_0 has failed: too many tokens enqueued"):
            judged(server, tmp_path)
        server.fake.plan |= {"ends": "cancelled", "run_share": 0.5}
        with critic(server, tmp_path) as judge:
            taken: list[Critique] = []
            with pytest.raises(CriticError, match="was cancelled"):
                _take(judge, taken)
        # Half of each of the three batches was run, and is kept.
        assert len(taken) == 5 + 5 + 2
        server.fake.plan |= {"ends": "completed", "run_share": 1}
        rest = [text for text in PAGES if document(text).doc_id not in {t.doc_id for t in taken}]
        assert len(judged(server, tmp_path, rest)) == 13


def _take(judge: BatchCritic, taken: list[Critique], texts: list[str] = PAGES) -> None:
    """Collect critiques until the run ends or raises."""
    for critique in judge.run(map(document, texts)):
        taken.append(critique)


def test_fault_of_all_requests_stops_the_run_and_is_not_read_again(tmp_path: Path) -> None:
    texts = ["[[bad_schema]] a", *PAGES[:4]]
    with RunningBatches() as server:
        with critic(server, tmp_path) as judge:
            taken: list[Critique] = []
            with pytest.raises(CriticError, match="refuses the rubric's answer schema"):
                _take(judge, taken, texts)
        assert len(taken) == 4
        assert left(tmp_path) == []


def test_busy_server_and_lost_response_create_no_second_batch(tmp_path: Path) -> None:
    with RunningBatches({"busy": 1, "lose_create": 1, "page": 1}) as server:
        assert len(judged(server, tmp_path)) == 25
        assert len(server.fake.batches) == 3
        assert len(set(server.fake.submitted())) == len(server.fake.submitted()) == 25


def test_server_without_batches_or_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with Running() as server, pytest.raises(CriticError, match="has no batch API"):
        judged(server, tmp_path)  # type: ignore[arg-type]
    gone = pytest.raises(CriticError, match=r"HTTP 503.*the same command continues")
    with RunningBatches({"busy": 10**6}) as server, gone:
        judged(server, tmp_path)


def test_batches_are_cut_to_the_budget(tmp_path: Path) -> None:
    # A document may cost 200, and costs 120.
    prices = {"price_out": 1_000_000.0}
    with RunningBatches() as server:
        limits = SpendingLimits(max_cost=25 * 120 + 90, **prices)
        found = judged(server, tmp_path, limits=limits)
        assert len(found) == 25
        sizes = [server.fake.files[one["input_file_id"]].count(b"\n")
                 for one in server.fake.batches.values()]  # fmt: skip
        assert sizes[0] == 10
        assert len(sizes) > 3
    with (
        RunningBatches() as server,
        critic(server, tmp_path, limits=SpendingLimits(max_cost=1000, **prices)) as judge,
    ):
        taken: list[Critique] = []
        with pytest.raises(CriticError, match="--max-cost"):
            _take(judge, taken)
        assert len(taken) == 7
        assert judge.usage["cost_millionths"] == 7 * 120 * 1e6


def test_downloaded_batch_is_read_again_after_a_crash(tmp_path: Path) -> None:
    with RunningBatches() as server:
        with critic(server, tmp_path) as judge:
            run = judge.run(map(document, PAGES))
            first = next(run)
            # The caller crashes before it takes the next one.
            run.close()
        files = server.fake.requests["content"]
        rest = [text for text in PAGES if document(text).doc_id != first.doc_id]
        assert len(judged(server, tmp_path, rest)) == 24
        assert len(server.fake.submitted()) == 25
        assert server.fake.requests["content"] <= files + 2
        assert left(tmp_path) == []


def test_unreadable_state_of_a_batch_is_not_ignored(tmp_path: Path) -> None:
    with RunningBatches({"polls": 10**9}) as server, critic(server, tmp_path) as judge:
        folder = tmp_path / "batches"
        judge.connect()
        run = judge.run(map(document, PAGES))
        server.fake.plan["polls"] = 0
        next(run)
        run.close()
        (state,) = [path for path in folder.rglob("*.json") if path.stat().st_size][:1]
        state.write_text("{}")
        with pytest.raises(CriticError, match="state of a submitted batch is not readable"):
            next(judge.run(map(document, PAGES)))


def test_two_processes_do_not_share_batches(tmp_path: Path) -> None:
    with RunningBatches() as server, critic(server, tmp_path) as one:
        run = one.run(map(document, PAGES))
        next(run)
        with critic(server, tmp_path) as other, pytest.raises(CriticError, match="another process"):
            next(other.run(map(document, PAGES)))
        assert len(list(run)) == 24


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(CriticError, match="exactly one --endpoint"):
        BatchCritic(str(tmp_path), endpoints="http://a/v1,http://b/v1", model="m")
    with pytest.raises(CriticError, match="give 1 to 50,000"):
        BatchCritic(str(tmp_path), 50_001, endpoints="http://a/v1", model="m")
    with pytest.raises(CriticError, match="no expected score"):
        BatchCritic(str(tmp_path), endpoints="http://a/v1", model="m")


def ingested(folder: Path) -> Store:
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in PAGES))
    ixt("init", folder=folder)
    ixt("ingest", "--corpus", "web", "a.jsonl", folder=folder)
    return Store.open(folder / "S")


def words(server: RunningBatches, *more: object) -> tuple[object, ...]:
    quick = ("--batch", "--batch-requests", 10, "-O", "poll_seconds=0.02")
    return command(server, *quick, *more)


@pytest.mark.parametrize("step", ["upload", "create", "look", "content"])
def test_process_killed_at_any_step_submits_no_document_twice(tmp_path: Path, step: str) -> None:
    store = ingested(tmp_path)
    with RunningBatches({"polls": 2, "page": 2}) as server:
        held = server.fake.hold(step)
        process = start(tmp_path, *words(server))
        assert held.wait(60)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        found = as_json(*words(server), folder=tmp_path)
        assert (found["documents"], found["ok"]) == (25, 25)
        submitted = server.fake.submitted()
        assert len(submitted) == len(set(submitted)) == 25
        assert set(server.fake.asked.values()) == {1}
    assert store.sql("SELECT count(*), count(DISTINCT doc_id) FROM critiques").fetchall() == [
        (25, 25)
    ]
    batches = tmp_path / "S/_journal/batches"
    assert [path for path in batches.rglob("*") if path.is_file()] == []


def test_verb_counts_cost_and_shares_its_critic_with_single_requests(tmp_path: Path) -> None:
    ingested(tmp_path)
    with RunningBatches() as server:
        found = as_json(*words(server, "--price-out", 10), folder=tmp_path)
        assert found["cost"] == pytest.approx(25 * 120 * 10 / 1e6)
        again = as_json(*command(server, "--no-expected"), folder=tmp_path)
        assert (again["critic"], again["documents"]) == (found["critic"], 0)
        for more, message in (
            (("--workers", 2), "is not for --batch"),
            (("--estimate",), "is not for --batch"),
        ):
            assert message in ixt(*words(server, *more), folder=tmp_path, code=2).stderr
    base = ("critique", "--corpus", "web", "--critic", "rules")
    assert "for rules" in ixt(*base, "--batch", folder=tmp_path, code=2).stderr
    judge = (*base[:-1], "vllm", "--endpoint", "http://127.0.0.1:9/v1")
    alone = ixt(*judge, "--batch-requests", 5, folder=tmp_path, code=2)
    assert "requires --batch" in alone.stderr


def test_pairs_are_compared_in_batches(tmp_path: Path) -> None:
    ingested(tmp_path)
    with RunningBatches() as server:
        found = as_json(*words(server, "--pairwise", "--pairs-per-document", 2), folder=tmp_path)
        assert (found["pairs"], found["requested"], found["failed"]) == (25, 50, 0)
        assert len(server.fake.batches) == 5
