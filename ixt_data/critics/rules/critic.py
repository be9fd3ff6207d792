"""The `rules` critic: document statistics in the C4 / Gopher / FineWeb and The Stack tradition.

`web` contains the rules on text, `code` those on code, `rule` their form and all sources. A
conversation is judged by the assistant's turns, as text. Statistics and spans are of the first 2^20
characters of a document, which bounds the time.
"""

import sys
from collections.abc import Iterable
from dataclasses import astuple
from itertools import islice
from typing import Any

from ixt_data.critics.base import EmbeddedCritic
from ixt_data.critics.rules import code, critique_text, web
from ixt_data.critics.rules.language import Language, language_of
from ixt_data.critics.rules.rule import Rule, Verdict, aggregate_score
from ixt_data.critics.rules.turns import assistant_turns
from ixt_data.records import Critique, Document, Span, content_id

RULES_VERSION = 3
"""Raise it when a statistic is computed or a critique is composed differently.

Thresholds and wordings of rules are hashed separately.
"""
MAX_MEASURED = 1 << 20
MAX_SPANS = 32
EMPTY = Critique(b"", critique="It is empty.", score=0.0, flags=("empty",))


class RulesCritic(EmbeddedCritic):
    """Critic that names the defects of text and code from statistics; it needs no model.

    `scores` are the dimensions, 0 to 1: language, repetition, structure and boilerplate of text;
    clarity, documentation, structure and substance of code.
    """

    name = "rules"
    one_per_core = True

    def config(self) -> dict[str, Any]:
        """Return the critic's config; it has the Python version, whose parser reads the code."""
        tables = {"text": _rule_tuples(web.RULES), "code": _rule_tuples(code.RULES)}
        weights = {"text": web.WEIGHTS, "code": code.WEIGHTS}
        return {
            "critic": self.name,
            "rules": RULES_VERSION,
            "thresholds": content_id({"rules": tables, "weights": weights}),
            "measured_characters": MAX_MEASURED,
            "python_grammar": f"{sys.version_info.major}.{sys.version_info.minor}",
        }

    def judge(self, document: Document) -> Critique:
        """Return the critique of one document; every text has one."""
        turns = assistant_turns(document.text)
        text = (document.text if turns is None else turns.text)[:MAX_MEASURED]
        if not text.strip():
            return Critique(
                document.doc_id, critique=EMPTY.critique, score=EMPTY.score, flags=EMPTY.flags
            )
        # A conversation is prose, also where a turn has code.
        language = language_of(text, document.source_id) if turns is None else "text"
        verdict = judge_text(text) if language == "text" else judge_code(text, language)
        spans = verdict.spans
        if turns is not None:
            spans = tuple(filter(None, map(turns.stored, spans)))
        return Critique(
            document.doc_id,
            critique=critique_text.write_critique(verdict, int.from_bytes(document.doc_id[:4])),
            score=verdict.score,
            scores=verdict.scores,
            spans=spans,
            flags=verdict.flags,
        )


def judge_text(text: str) -> Verdict:
    """Return the verdict on a text that is not blank."""
    return aggregate_score(
        "text", web.RULES, web.WEIGHTS, web.measure(text), _first_spans(web.spans(text))
    )


def judge_code(text: str, language: Language) -> Verdict:
    """Return the verdict on code that is not blank."""
    measures, spans = code.examine(text, language)
    return aggregate_score("code", code.RULES, code.WEIGHTS, measures, _first_spans(spans))


def _first_spans(spans: Iterable[Span]) -> list[Span]:
    return sorted(islice(spans, MAX_SPANS), key=lambda span: (span.start, span.end))


def _rule_tuples(rules: Iterable[Rule]) -> list[tuple[Any, ...]]:
    return [astuple(rule) for rule in rules]
