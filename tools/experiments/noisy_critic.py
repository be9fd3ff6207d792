"""A critic of worked sums that is wrong on a share of its spans."""

import random
from dataclasses import replace
from typing import Any

from ixt_data.critics import DEFECTS, JUNK, MIXED, ArithmeticCritic
from ixt_data.records import Critique, Document, Span

KINDS = (*DEFECTS, JUNK, MIXED)


class NoisyArithmeticCritic(ArithmeticCritic):
    """A critic that judges as `arithmetic` does, but errs on a share of the spans.

    A right step then becomes wrong, with a random complaint. Half of the wrong steps on which it
    errs become right, and half get another complaint. Score and critique are unchanged.

    Args:
        percent: share of the spans on which it errs.
    """

    def __init__(self, percent: int | str) -> None:
        super().__init__()
        self.percent = int(percent)
        self.name = f"wrong_on_{self.percent}"

    def config(self) -> dict[str, Any]:
        """See `Critic.config`."""
        return {**super().config(), "critic": self.name, "percent": self.percent}

    def judge(self, document: Document) -> Critique:
        """Return the critique of one document; the same document always has the same errors."""
        critique = super().judge(document)
        rng = random.Random(document.doc_id)
        spans = (
            self._wrong_span(span, rng) if rng.random() * 100 < self.percent else span
            for span in critique.spans
        )
        return replace(critique, spans=tuple(spans))

    def _wrong_span(self, span: Span, rng: random.Random) -> Span:
        if span.verdict == "wrong" and rng.random() < 0.5:
            return Span(span.start, span.end, "right")
        tags = [kind for kind in KINDS if kind != span.tag]
        return Span(span.start, span.end, "wrong", rng.choice(tags))
