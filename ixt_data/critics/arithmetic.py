"""The verifier of the worked-sums corpus "clock arithmetic", and the defects that its authors have.

A document is a few chains of steps on a clock of 40 numbers: `17 + 5 = 22 - 8 = 14 ; 3 - 9 = 34 ;`,
tokens separated by white space. The critic reads nothing but the text: a step is checked from the
number written before it, so one slip costs one step.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ixt_data.critics.base import EmbeddedCritic
from ixt_data.errors import CriticError
from ixt_data.records import Critique, Document, Span

CLOCK = 40
GOOD, JUNK, MIXED = "good", "junk", "mixed"
INVALID = "invalid"
RULES_VERSION = 1
JUNK_BELOW = 0.3
"""Share of right steps under which results that follow no defect are called random."""
BEST_FLAWED = 8
"""The highest score, of 10, that a document with a wrong step can have."""

Operation = tuple[int, int]
"""The sign of a step, 1 or -1, and its operand."""
Step = Callable[[int, int, int, int], int]
"""(number before the previous one, previous number, sign, operand) -> result, not yet modulo."""

AUTHORS: Mapping[str, Step] = {
    GOOD: lambda _, previous, sign, operand: previous + sign * operand,
    "addonly": lambda _, previous, sign, operand: previous + operand,
    "flip": lambda _, previous, sign, operand: previous - sign * operand,
    "offone": lambda _, previous, sign, operand: previous + sign * operand + 1,
    "double": lambda _, previous, sign, operand: previous + 2 * sign * operand,
    "stale": lambda before, _, sign, operand: before + sign * operand,
    "copy": lambda _, previous, sign, operand: previous + sign,
}
"""How each kind of author computes a step; who writes junk follows no rule and is not here."""

SENTENCES: Mapping[str, str] = {
    GOOD: "every step is correct",
    "addonly": "reads minus as plus",
    "flip": "plus and minus are swapped",
    "offone": "each result is one too high",
    "double": "counts the operand twice",
    "stale": "starts from an old number",
    "copy": "ignores the operand",
    JUNK: "results are random",
    MIXED: "wrong in another way",
}
"""What the critic says of a document, by the kind of its author."""

DEFECTS = tuple(kind for kind in AUTHORS if kind != GOOD)
"""The systematic defects, in the order in which the critic tries them."""

_TOKEN = re.compile(r"\S+")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,5}")
_SIGNS = {"+": 1, "-": -1}


def write_results(
    kind: str,
    start: int,
    operations: Sequence[Operation],
    *,
    clock: int = CLOCK,
    rng: random.Random | None = None,
) -> list[int]:
    """The results that an author of `kind` writes for one chain; junk is drawn from `rng`."""
    if kind == JUNK:
        if rng is None:
            raise ValueError("junk is random: write_results needs `rng` for it")
        return [rng.randrange(clock) for _ in operations]
    results, before, previous = [], start, start
    for sign, operand in operations:
        result = AUTHORS[kind](before, previous, sign, operand) % clock
        before, previous = previous, result
        results.append(result)
    return results


class NotASumError(ValueError):
    """The text is no worked sum; the message says where reading stopped."""


@dataclass(frozen=True, slots=True)
class WrittenStep:
    """One step as it stands in the text, from its sign to its result."""

    start: int
    end: int
    previous: int
    sign: int
    operand: int
    result: int

    def right_result(self, clock: int) -> int:
        """What the step should have come to."""
        return (self.previous + self.sign * self.operand) % clock

    def is_right(self, clock: int) -> bool:
        """Whether the written result follows from the number written before it."""
        return self.result == self.right_result(clock)


@dataclass(frozen=True, slots=True)
class ArithmeticChain:
    """A start number and the steps after it."""

    first: int
    steps: tuple[WrittenStep, ...]

    def written_by(self, kind: str, clock: int) -> bool:
        """Whether an author with this defect would have written just this chain."""
        operations = [(step.sign, step.operand) for step in self.steps]
        written = [step.result for step in self.steps]
        return write_results(kind, self.first, operations, clock=clock) == written


class _Reader:
    """Tokens of a text, one ahead. Lazy: a long text of another kind is left at its first token."""

    def __init__(self, text: str) -> None:
        self._length = len(text)
        self._tokens: Iterator[re.Match[str]] = _TOKEN.finditer(text)
        self.token: re.Match[str] | None = next(self._tokens, None)

    def word(self) -> str:
        """The current token, empty at the end."""
        return self.token.group() if self.token else ""

    def take(self) -> re.Match[str]:
        """The current token; moves on."""
        assert self.token is not None
        token, self.token = self.token, next(self._tokens, None)
        return token

    def number(self) -> re.Match[str]:
        """The current token, which must be a number; moves on."""
        if not _NUMBER.fullmatch(self.word()):
            raise self.stop("a number")
        return self.take()

    def stop(self, expected: str) -> NotASumError:
        """The error that `expected` is not what stands here."""
        position = self.token.start() if self.token else self._length
        found = repr(self.word()[:20]) if self.token else "the end of the text"
        return NotASumError(
            f"no worked sum: expected {expected} at character {position}, found {found}"
        )


def parse_chains(text: str, clock: int = CLOCK) -> list[ArithmeticChain]:
    """The chains of a worked-sums document.

    Raises:
        NotASumError: the text is something else.
    """
    reader = _Reader(text)
    chains = [_parse_chain(reader, clock)]
    while reader.token is not None:
        chains.append(_parse_chain(reader, clock))
    return chains


def _parse_chain(reader: _Reader, clock: int) -> ArithmeticChain:
    if _NUMBER.fullmatch(reader.word()) and int(reader.word()) >= clock:
        raise reader.stop(f"a number below {clock}")
    first = previous = int(reader.number().group())
    steps: list[WrittenStep] = []
    while reader.word() in _SIGNS:
        step = _parse_step(reader, previous)
        steps.append(step)
        previous = step.result
    if not steps:
        raise reader.stop("'+' or '-'")
    if reader.token is not None:
        if reader.word() != ";":
            raise reader.stop("'+', '-' or ';'")
        reader.take()
    return ArithmeticChain(first, tuple(steps))


def _parse_step(reader: _Reader, previous: int) -> WrittenStep:
    sign = reader.take()
    operand = reader.number()
    if reader.word() != "=":
        raise reader.stop("'='")
    reader.take()
    result = reader.number()
    return WrittenStep(
        sign.start(),
        result.end(),
        previous,
        _SIGNS[sign.group()],
        int(operand.group()),
        int(result.group()),
    )


class ArithmeticCritic(EmbeddedCritic):
    """Verifies worked sums: a score from the share of right steps, and the defect by name.

    Args:
        clock: how many numbers the clock has.
    """

    name = "arithmetic"

    def __init__(self, clock: int | str = CLOCK) -> None:
        if not str(clock).isdecimal() or int(clock) < 2:
            raise CriticError(f"arithmetic: clock={clock!r} is not a whole number of 2 or more")
        self.clock = int(clock)

    def config(self) -> dict[str, Any]:
        """See `Critic.config`."""
        return {
            "critic": self.name,
            "rules": RULES_VERSION,
            "clock": self.clock,
            "sentences": dict(SENTENCES),
            "junk_below": JUNK_BELOW,
            "best_flawed": BEST_FLAWED,
        }

    def judge(self, document: Document) -> Critique:
        """The critique of one document: status `invalid` where the text is no worked sum."""
        try:
            chains = parse_chains(document.text, self.clock)
        except NotASumError as stop:
            return Critique(document.doc_id, status=INVALID, error=str(stop))
        steps = [step for chain in chains for step in chain.steps]
        share = sum(step.is_right(self.clock) for step in steps) / len(steps)
        kind = self._kind(chains, share)
        return Critique(
            document.doc_id,
            critique=SENTENCES[kind],
            score=1.0 if kind == GOOD else min(BEST_FLAWED, round(10 * share)) / 10,
            scores={"steps_right": share},
            spans=tuple(self._span(step, kind) for step in steps),
            flags=() if kind == GOOD else (kind,),
        )

    def _kind(self, chains: Sequence[ArithmeticChain], share: float) -> str:
        if share == 1:
            return GOOD
        for defect in DEFECTS:
            if all(chain.written_by(defect, self.clock) for chain in chains):
                return defect
        return JUNK if share < JUNK_BELOW else MIXED

    def _span(self, step: WrittenStep, kind: str) -> Span:
        if step.is_right(self.clock):
            return Span(step.start, step.end, "right")
        sum_text = f"{step.previous} {'+' if step.sign > 0 else '-'} {step.operand}"
        comment = f"{sum_text} is {step.right_result(self.clock)}, not {step.result}"
        return Span(step.start, step.end, "wrong", kind, comment)
