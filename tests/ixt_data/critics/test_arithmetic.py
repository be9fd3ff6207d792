"""The worked-sums verifier against a brute-force one, and its critiques as a user sees them."""

import random
from collections import Counter
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixt_data.critics.arithmetic import (
    AUTHORS,
    CLOCK,
    DEFECTS,
    GOOD,
    JUNK,
    MIXED,
    SENTENCES,
    ArithmeticCritic,
    NotASumError,
    parse_chains,
    write_results,
)
from ixt_data.critics.base import critic_id
from ixt_data.errors import CriticError
from ixt_data.records import Critique, Document, document_id
from ixt_tools.demo.clock_arithmetic import write_corpus

critic = ArithmeticCritic()


def judge(text: str) -> Critique:
    return critic.judge(Document(document_id(text), text))


def brute_force(text: str) -> tuple[float, str]:
    """Score and defect, by splitting and a table of formulas written on their own."""
    right = total = 0
    fits = dict.fromkeys(DEFECTS, True)
    for chain in text.strip("; ").split(";"):
        words = chain.split()
        old = last = int(words[0])
        for sign, operand, _, result in zip(*[iter(words[1:])] * 4, strict=True):
            b, r = int(operand), int(result)
            s = 1 if sign == "+" else -1
            right += (last + s * b - r) % CLOCK == 0 and r < CLOCK
            total += 1
            expected = {
                "addonly": last + b,
                "flip": last - s * b,
                "offone": last + s * b + 1,
                "double": last + 2 * s * b,
                "stale": old + s * b,
                "copy": last + s,
            }
            for kind, value in expected.items():
                fits[kind] = fits[kind] and value % CLOCK == r
            old, last = last, r
    if right == total:
        return 1.0, GOOD
    score = min(8, round(10 * right / total)) / 10
    return score, next((k for k in DEFECTS if fits[k]), JUNK if right / total < 0.3 else MIXED)


chains = st.builds(
    lambda start, operations, kind, seed: (start, operations, kind, random.Random(seed)),
    st.integers(0, CLOCK - 1),
    st.lists(st.tuples(st.sampled_from([1, -1]), st.integers(1, 9)), min_size=1, max_size=6),
    st.sampled_from([*AUTHORS, JUNK]),
    st.integers(0, 1000),
)


def written(chain: tuple[int, list[tuple[int, int]], str, random.Random]) -> str:
    start, operations, kind, rng = chain
    results = write_results(kind, start, operations, rng=rng)
    steps = zip(operations, results, strict=True)
    return f"{start} " + " ".join(f"{'+' if s > 0 else '-'} {b} = {r}" for (s, b), r in steps)


@given(st.lists(chains, min_size=1, max_size=3))
def test_arithmetic_agrees_with_brute_force(drawn):
    text = " ; ".join(map(written, drawn)) + " ;"
    critique = judge(text)
    score, kind = brute_force(text)
    assert (critique.score, critique.critique) == (score, SENTENCES[kind])
    right = sum(span.verdict == "right" for span in critique.spans)
    assert critique.scores == {"steps_right": right / len(critique.spans)}


@pytest.mark.parametrize("kind", DEFECTS)
def test_arithmetic_names_each_defect(kind):
    operations = [(1, 5), (-1, 8), (1, 3), (-1, 2)]
    text = written((17, operations, kind, random.Random(0)))
    assert judge(text).critique == SENTENCES[kind]


def test_arithmetic_spans_cover_the_steps():
    text = "17 + 5 = 23 - 8 = 16 ; 3 - 9 = 34 ;"
    critique = judge(text)
    assert [text[span.start : span.end] for span in critique.spans] == [
        "+ 5 = 23",
        "- 8 = 16",
        "- 9 = 34",
    ]
    assert [span.verdict for span in critique.spans] == ["wrong", "wrong", "right"]
    assert critique.spans[0].comment == "17 + 5 is 22, not 23"
    assert critique.spans[1].comment == "23 - 8 is 15, not 16"
    assert [span.tag for span in critique.spans] == ["mixed", "mixed", ""]
    assert critique.score == 0.3
    assert critique.scores == {"steps_right": 1 / 3}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "expected a number at character 0, got the end"),
        ("The quick brown fox", "expected a number at character 0, got 'The'"),
        ("17", "expected '+' or '-' at character 2"),
        ("17 + 5", "expected '=' at character 6"),
        ("17 + 5 = 22 x", "expected '+', '-' or ';' at character 12, got 'x'"),
        ("17 + 5 = 22 ; ;", "expected a number at character 14"),
        ("40 + 5 = 5", "expected a number below 40 at character 0"),
        ("1 + " + "9" * 5000 + " = 2", "expected a number at character 4"),
    ],
)
def test_arithmetic_on_other_texts_is_invalid(text, where):
    critique = judge(text)
    assert critique.status == "invalid"
    assert critique.score is None
    assert critique.error is not None
    assert where in critique.error


@given(st.text(alphabet="0123456789+-=; \n٣x") | st.text())
def test_arithmetic_judges_any_text(text):
    critique = critic.judge(Document(bytes(16), text))
    assert critique.status in ("ok", "invalid")
    for span in critique.spans:
        assert 0 <= span.start < span.end <= len(text)


def test_arithmetic_stops_early_on_other_texts():
    with pytest.raises(NotASumError):
        parse_chains("word " * 2_000_000)


def test_arithmetic_scores_match_the_reference(tmp_path: Path):
    """90% of the authors have one of 7 defects: about 10% of the documents score 1."""
    paths = write_corpus(tmp_path, documents=4000, bad=0.9, seed=1)
    rows = [orjson.loads(line) for line in paths.corpus.open("rb")]
    critiques = [judge(row["text"]) for row in rows]
    assert 0.08 < sum(c.score == 1 for c in critiques) / len(rows) < 0.12
    agreed = Counter(
        (row["author"], c.critique == SENTENCES[row["author"]])
        for row, c in zip(rows, critiques, strict=True)
    )
    for kind in (*DEFECTS, GOOD, JUNK):
        assert agreed[kind, True] > 0.85 * (agreed[kind, True] + agreed[kind, False])


def test_clock_option_is_part_of_the_id():
    assert ArithmeticCritic(clock="12").judge(Document(bytes(16), "7 + 8 = 3")).score == 1
    assert critic_id(ArithmeticCritic(12)) != critic_id(critic)
    assert critic_id(ArithmeticCritic("40")) == critic_id(critic)
    with pytest.raises(CriticError, match="clock='x'"):
        ArithmeticCritic(clock="x")
