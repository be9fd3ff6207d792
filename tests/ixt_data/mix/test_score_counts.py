"""Scores of a plan by bin, against the plan's own order."""

from collections import Counter
from pathlib import Path

from critiqued import add_documents, critiqued_store, texts
from numbers_stream import MIX

from ixt_data.mix import drawn_scores, plan_mix, samples_of


def test_counts_are_those_of_the_documents_and_of_the_order(tmp_path: Path) -> None:
    store = critiqued_store(tmp_path / "store", 120)
    add_documents(store, texts(30, start=120))
    plan = plan_mix(MIX, 300, store=store)
    counts = drawn_scores(store, plan, "numbers")
    numbers = [n for n in range(120) if n % 50 != 49]
    assert counts.documents == {step: sum(n % 11 == step for n in numbers) for step in range(11)}
    texts_of = [text for shard, _ in plan.shards for text in store.shard(shard).column("text")]
    drawn = Counter(
        int(texts_of[sample].split()[1])
        for epoch in range(plan.epochs)
        for sample in samples_of(plan.order(epoch)).tolist()
    )
    expected = Counter[int]()
    for number, n in drawn.items():
        if number in numbers:
            expected[number % 11] += n
    assert {step: n for step, n in counts.draws.items() if n} == dict(expected)
    assert sum(counts.draws.values()) < plan.samples
