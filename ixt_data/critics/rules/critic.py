"""The `rules` critic: document statistics in the C4 / Gopher / FineWeb and The Stack tradition.

`web` holds the rules on text, `code` those on code, `rule` their form and all sources. Statistics
are of the first 2^20 characters of a document, so that none takes long; so are the spans.
"""

import sys
from collections.abc import Iterable
from dataclasses import astuple
from itertools import islice
from typing import Any

from ixt_data.critics.base import EmbeddedCritic
from ixt_data.critics.rules import code, critique_text, web
from ixt_data.critics.rules.language import Language, language_of
from ixt_data.critics.rules.rule import Rule, Verdict, weigh
from ixt_data.records import Critique, Document, Span, content_id

RULES_VERSION = 1
"""Goes up when a statistic is counted in another way; thresholds are hashed by themselves."""
MAX_MEASURED = 1 << 20
MAX_SPANS = 32
EMPTY = Critique(b"", critique="There is nothing in it.", score=0.0, flags=("empty",))


class RulesCritic(EmbeddedCritic):
    """Names the defects of text and code from their statistics; needs no model.

    `scores` are the dimensions, 0 to 1: language, repetition, structure and boilerplate of text;
    clarity, documentation, structure and substance of code.
    """

    name = "rules"

    def config(self) -> dict[str, Any]:
        """See `Critic.config`. The parser of Python code is the interpreter's own, so it counts."""
        tables = {"text": _table(web.RULES), "code": _table(code.RULES)}
        weights = {"text": web.WEIGHTS, "code": code.WEIGHTS}
        return {
            "critic": self.name,
            "rules": RULES_VERSION,
            "thresholds": content_id({"rules": tables, "weights": weights}),
            "measured_characters": MAX_MEASURED,
            "python_grammar": f"{sys.version_info.major}.{sys.version_info.minor}",
        }

    def judge(self, document: Document) -> Critique:
        """The critique of one document; any text has one."""
        text = document.text[:MAX_MEASURED]
        if not text.strip():
            return Critique(
                document.doc_id, critique=EMPTY.critique, score=EMPTY.score, flags=EMPTY.flags
            )
        language = language_of(text, document.source_id)
        verdict = judge_text(text) if language == "text" else judge_code(text, language)
        return Critique(
            document.doc_id,
            critique=critique_text.word_critique(verdict, int.from_bytes(document.doc_id[:4])),
            score=verdict.score,
            scores=verdict.scores,
            spans=verdict.spans,
            flags=verdict.flags,
        )


def judge_text(text: str) -> Verdict:
    """The verdict on a text that is not blank."""
    return weigh("text", web.RULES, web.WEIGHTS, web.measure(text), _first(web.spans(text)))


def judge_code(text: str, language: Language) -> Verdict:
    """The verdict on code that is not blank."""
    measures, spans = code.examine(text, language)
    return weigh("code", code.RULES, code.WEIGHTS, measures, _first(spans))


def _first(spans: Iterable[Span]) -> list[Span]:
    return sorted(islice(spans, MAX_SPANS), key=lambda span: (span.start, span.end))


def _table(rules: Iterable[Rule]) -> list[tuple[Any, ...]]:
    return [astuple(rule) for rule in rules]
