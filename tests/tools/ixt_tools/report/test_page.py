"""The report page: hostile documents stay text, nothing is fetched, charts follow the theme."""

import re
from pathlib import Path

import orjson
import pytest
from hostile_html import HOSTILE, Tags

from ixt_data.records import Span
from ixt_tools.report.content import (
    MAX_SAMPLE_CHARS,
    MAX_SAMPLE_LINES,
    Arm,
    Histogram,
    Loss,
    MixPlanSummary,
    Report,
    ReportQuery,
    ReportTable,
    Sample,
    replace_hidden,
    sample_segments,
    shown_length,
)
from ixt_tools.report.page import write_report

SUM = "17 + 5 = 22 - 8 = 14 ; 3 - 9 = 34 + 2 = 31 ; "
ARMS = ("plain", "filter", "score", "critique")


def make_report() -> Report:
    """A report with every part filled, each with some text that tries to break out."""
    steps = tuple(range(50, 1001, 50))
    rising = tuple(min(0.93, max(0.0, (step - 420) / 400)) for step in steps)
    flat = {"plain": 0.0, "filter": 0.01, "score": 0.04}
    plan = (("all", "2,000", "71,234", "1.00", "24.0"),)
    return Report(
        title="With critiques the model solves 93% of new problems; without them, at most 4%",
        snapshot=6,
        documents=3812,
        seed=0,
        seconds=412.3,
        effect=(
            "2,000 worked sums, 90% of them by authors with a systematic defect. A critic names "
            "each defect; the four arms see the same documents, the last with the critique."
        ),
        histograms=(
            Histogram("stdlib", "rules", (2, 5, 12, 31, 66, 140, 260, 480, 610, 200, 6)),
            Histogram("clock<b>", "arithmetic", (300, 420, 200, 330, 210, 150, 120, 60, 10, 0, 9)),
        ),
        queries=(
            ReportQuery(
                "Which packages of the standard library score lowest?",
                "SELECT source, count(*) n FROM documents WHERE 1 < 2",
                ReportTable("", ("source", "n"), (("test/<i>bad.py</i>", "12"), ("lib2to3", "7"))),
            ),
        ),
        mixes=tuple(
            MixPlanSummary(
                name, "store: ./store\nselections:\n  - {name: all}\n", plan, 2000, "9f3ab2c14d0e"
            )
            for name in ARMS
        ),
        arms=tuple(
            Arm(
                name=name,
                steps=steps,
                accuracy=rising if name == "critique" else (flat[name],) * len(steps),
                final=0.93 if name == "critique" else flat[name],
                documents=198 if name == "filter" else 2000,
                tokens=1_234_567,
                seconds=71.2,
            )
            for name in ARMS
        ),
        losses=tuple(
            Loss(bucket, feedback, 3.1 + 0.2 * i + 0.1 * j)
            for i, bucket in enumerate(("0.8 to 1", "0.6 to 0.8", "0 to 0.6"))
            for j, feedback in enumerate(("best", "worst", "none"))
        ),
        loss_note="Documents held out of training, in nats per token.",
        samples=(
            Sample("stdlib", "evil.py", "ab" * 8, None, HOSTILE, sample_segments(HOSTILE, ())),
            Sample(
                "clock",
                "author-3",
                "cd" * 8,
                0.2,
                "reads minus as plus",
                sample_segments(
                    SUM, (Span(0, 11, "right"), Span(11, 18, "wrong", "reads minus as plus"))
                ),
            ),
        ),
        facts=(("CPU", "2 cores"), ("Python", "3.11"), ("torch", "2.7.0")),
        repeat=("ixt demo --seed 0",),
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_report(make_report(), tmp_path_factory.mktemp("report"))
    return path.read_text()


def test_hostile_documents_stay_text(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert tags.tags.isdisjoint({"script", "img", "iframe", "object", "link", "b"})
    assert tags.handlers == []
    assert tags.loads == []
    assert "{{ 7 * 7 }}" in page
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_charts_follow_the_theme(page: str) -> None:
    assert page.count("<svg") == 3
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert "var(--arm-critique)" in drawn
    assert not re.findall(r'"#0[1-9]0[1-9]0[1-9]"', drawn)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_figures_are_shown(page: str) -> None:
    text = re.sub(r"<[^>]+>", " ", page)
    for shown in ("93.0%", "3,812", "6:52", "reads minus as plus", "best feedback", "3.100"):
        assert shown in text


def test_content_is_written_as_json(tmp_path: Path) -> None:
    write_report(make_report(), tmp_path)
    kept = orjson.loads((tmp_path / "report.json").read_bytes())
    assert kept["arms"][3]["final"] == 0.93


def test_pieces_cover_what_is_shown_whatever_the_spans() -> None:
    spans = (Span(5, 9, "wrong"), Span(0, 6, "right"), Span(8, 400, "wrong"), Span(-3, 0, "right"))
    cut = sample_segments(SUM, spans)
    assert "".join(piece.text for piece in cut) == SUM
    assert [piece.verdict for piece in cut] == ["right", "wrong", "wrong"]


def test_long_samples_are_cut_by_lines_and_by_characters() -> None:
    assert shown_length("one\ntwo\n") == 8
    assert shown_length("x\n" * 99) == 2 * MAX_SAMPLE_LINES - 1
    assert shown_length("x" * 5000) == MAX_SAMPLE_CHARS


def test_replace_hidden_keeps_visible_characters() -> None:
    assert replace_hidden("a\r\n\tb \u202e \x00 é 漢") == "a\n\tb \ufffd \ufffd é 漢"
