"""After any night the set of (document, critic) rows is exact.

Any night: every way to answer badly at random, overload, cuts, crashes, and workers that end in the
middle. `cli/test_critique_night.py` does the same to processes, with SIGKILL.
"""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from fake_vllm import Running
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from judging import PLAIN, QUICK, SHARES
from small_stores import add_documents

from ixt_data.critics.vllm.critic import VllmCritic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.maintenance.verification import verify
from ixt_data.records import Critique, document_id
from ixt_data.store.store import Store

CONCURRENCY, SHARD = 8, 12
WEB = [*(f"page {i}" for i in range(44)), "[[refused]] page", "[[too_long]] p", "[[no_choices]] p"]
BOOKS = [*WEB[::4], *(f"chapter {i}" for i in range(8))]
WAYS = (
    "no_answer answer_in_reasoning truncated clamped runaway invalid empty bad_score no_choices "
    "overload error"
).split()
RARE = st.floats(0, 0.02)
FAILURES = st.fixed_dictionaries(
    dict.fromkeys(WAYS, SHARES) | dict.fromkeys(("cut", "engine_crashed", "refused"), RARE)
)
STOPS = st.lists(st.tuples(st.sampled_from(["web", "books"]), st.integers(1, 40)), max_size=4)


class Killed(BaseException):
    """The worker ends here."""


def work(fake: Running, store: Store, corpus: str, stop: int = 0, *, again: bool = False) -> None:
    """One worker over a corpus, ended after so many documents if `stop` is not 0."""

    def progress(done: int, critique: Critique) -> None:
        if done == stop:
            raise Killed

    judge = {"sampling": PLAIN, "timeouts": QUICK, "concurrency": CONCURRENCY, "max_failed": 1.0}
    with VllmCritic(fake.url, "judge", **judge) as critic:
        annotate(store, corpus, critic, progress, retry_failed=again)


def exact(store: Store) -> dict[bytes, str]:
    """The status of each document; raises unless each of the store's has one row by the critic."""
    rows = (
        store.sql("SELECT doc_id, critic_id, status, score, error FROM critiques")
        .arrow()
        .to_pylist()
    )
    ids = Counter(row["doc_id"].bytes for row in rows)
    assert ids == Counter(map(document_id, {*WEB, *BOOKS}))
    assert len({row["critic_id"] for row in rows}) == 1
    for row in rows:
        assert (row["status"] == "ok") == (row["score"] is not None) == (row["error"] is None)
    counts = store.sql("SELECT status, count(*) AS n FROM critiques GROUP BY 1").arrow()
    assert sum(counts["n"].to_pylist()) == len(rows)
    return shown(store)


def shown(store: Store) -> dict[bytes, str]:
    rows = store.sql("SELECT doc_id, status FROM critiques").arrow().to_pylist()
    return {row["doc_id"].bytes: row["status"] for row in rows}


@given(FAILURES, st.integers(0, 99), STOPS)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.slow
def test_rows_after_random_failures_are_exact(
    plan: dict[str, float], seed: int, stops: list[tuple[str, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.init(Path(folder) / "S")
        add_documents(store, WEB, "web", SHARD)
        add_documents(store, BOOKS, "books", SHARD)
        with Running(plan | {"down": 0.1, "delay": 0.005, "seats": 6}, seed) as fake:
            for corpus, stop in stops:
                try:
                    work(fake, store, corpus, stop)
                except Killed:
                    continue
            work(fake, store, "web")
            good = {i for i, status in shown(store).items() if status == "ok"}
            asked = fake.fake.asked.copy()
            work(fake, store, "books")
            twice = [text for text in BOOKS if fake.fake.asked[text] > asked[text] > 0]
            # A document in both corpora is requested once.
            assert not {*map(document_id, twice)} & good
        found = exact(store)
        assert [found[document_id(text)] for text in WEB[-3:]] == [
            *("refused", "too_long", "no_answer"),
        ]
        assert list((Path(folder) / "S/_journal").rglob("*.jsonl")) == []
        assert verify(store).problems == []
        with Running() as well:
            for corpus in ("web", "books"):
                work(well, store, corpus, again=True)
        bad = {i for i, status in exact(store).items() if status != "ok"}
        assert bad == {*map(document_id, WEB[-3:])}
