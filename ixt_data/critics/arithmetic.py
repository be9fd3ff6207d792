"""The `arithmetic` critic: a verifier of the worked-sums corpus "clock arithmetic".

A document is a few chains of steps on a clock of 40 numbers, with white space between tokens:
`17 + 5 = 22 - 8 = 14 ; 3 - 9 = 34 ;`. The critic reads only the text. It checks a step from the
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
"""Default size of the clock; numbers are 0 to 39."""

GOOD, JUNK, MIXED = "good", "junk", "mixed"
"""Kinds of authors without one systematic defect: correct, random, and wrong in another way."""

INVALID = "invalid"
RULES_VERSION = 1
JUNK_BELOW = 0.3
"""Below this share of correct steps, results without a known defect count as random."""
BEST_FLAWED = 8
"""Highest score, of 10, of a document with a wrong step."""

Operation = tuple[int, int]
"""Sign of a step, 1 or -1, and its operand."""
Step = Callable[[int, int, int, int], int]
"""(number before the previous one, previous number, sign, operand) -> result, before modulo."""

AUTHORS: Mapping[str, Step] = {
    GOOD: lambda _, previous, sign, operand: previous + sign * operand,
    "addonly": lambda _, previous, sign, operand: previous + operand,
    "flip": lambda _, previous, sign, operand: previous - sign * operand,
    "offone": lambda _, previous, sign, operand: previous + sign * operand + 1,
    "double": lambda _, previous, sign, operand: previous + 2 * sign * operand,
    "stale": lambda before, _, sign, operand: before + sign * operand,
    "copy": lambda _, previous, sign, operand: previous + sign,
}
"""Rule by which each kind of author computes a step; authors of junk follow no rule."""

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
"""Critique of a document, by the kind of its author."""

DEFECTS = tuple(kind for kind in AUTHORS if kind != GOOD)
"""Systematic defects, in the order in which the critic tests them."""

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
    """Return the results that an author of `kind` writes for one chain.

    Args:
        kind: a key of `AUTHORS`, or `JUNK`.
        start: first number of the chain.
        operations: its steps.
        clock: size of the clock.
        rng: source of junk results.

    Raises:
        ValueError: `kind` is junk and `rng` is None.
    """
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
    """The text is not a worked sum; the message has the character where parsing stopped."""


@dataclass(frozen=True, slots=True)
class WrittenStep:
    """One step as the text contains it, from its sign to its result."""

    start: int
    end: int
    previous: int
    sign: int
    operand: int
    result: int

    def correct_result(self, clock: int) -> int:
        """Return the correct result of the step."""
        return (self.previous + self.sign * self.operand) % clock

    def is_correct(self, clock: int) -> bool:
        """Return whether the result follows from the number written before it."""
        return self.result == self.correct_result(clock)


@dataclass(frozen=True, slots=True)
class ArithmeticChain:
    """A start number and the steps after it."""

    first: int
    steps: tuple[WrittenStep, ...]

    def matches_author(self, kind: str, clock: int) -> bool:
        """Return whether an author with this defect writes exactly this chain."""
        operations = [(step.sign, step.operand) for step in self.steps]
        written = [step.result for step in self.steps]
        return write_results(kind, self.first, operations, clock=clock) == written


class _Reader:
    """Tokens of a text with one token of lookahead; lazy, so other texts stop it at once."""

    def __init__(self, text: str) -> None:
        self._length = len(text)
        self._tokens: Iterator[re.Match[str]] = _TOKEN.finditer(text)
        self.token: re.Match[str] | None = next(self._tokens, None)

    def current(self) -> str:
        """Return the current token, empty at the end."""
        return self.token.group() if self.token else ""

    def advance(self) -> re.Match[str]:
        """Return the current token and move to the next one."""
        assert self.token is not None
        token, self.token = self.token, next(self._tokens, None)
        return token

    def read_number(self) -> re.Match[str]:
        """Return the current token, a number, and move to the next one."""
        if not _NUMBER.fullmatch(self.current()):
            raise self.error("a number")
        return self.advance()

    def error(self, expected: str) -> NotASumError:
        """Return the error that the text does not continue with `expected`."""
        position = self.token.start() if self.token else self._length
        actual = repr(self.current()[:20]) if self.token else "the end of the text"
        return NotASumError(
            f"not a worked sum: expected {expected} at character {position}, got {actual}"
        )


def parse_chains(text: str, clock: int = CLOCK) -> list[ArithmeticChain]:
    """Return the chains of a worked-sums document.

    Raises:
        NotASumError: the text is not a worked sum.
    """
    reader = _Reader(text)
    chains = [_parse_chain(reader, clock)]
    while reader.token is not None:
        chains.append(_parse_chain(reader, clock))
    return chains


def _parse_chain(reader: _Reader, clock: int) -> ArithmeticChain:
    if _NUMBER.fullmatch(reader.current()) and int(reader.current()) >= clock:
        raise reader.error(f"a number below {clock}")
    first = previous = int(reader.read_number().group())
    steps: list[WrittenStep] = []
    while reader.current() in _SIGNS:
        step = _parse_step(reader, previous)
        steps.append(step)
        previous = step.result
    if not steps:
        raise reader.error("'+' or '-'")
    if reader.token is not None:
        if reader.current() != ";":
            raise reader.error("'+', '-' or ';'")
        reader.advance()
    return ArithmeticChain(first, tuple(steps))


def _parse_step(reader: _Reader, previous: int) -> WrittenStep:
    sign = reader.advance()
    operand = reader.read_number()
    if reader.current() != "=":
        raise reader.error("'='")
    reader.advance()
    result = reader.read_number()
    return WrittenStep(
        sign.start(),
        result.end(),
        previous,
        _SIGNS[sign.group()],
        int(operand.group()),
        int(result.group()),
    )


class ArithmeticCritic(EmbeddedCritic):
    """Verifier of worked sums: the score is the share of correct steps, a flag names the defect.

    Args:
        clock: size of the clock, 2 or more.

    Raises:
        CriticError: `clock` is wrong.
    """

    name = "arithmetic"
    one_per_core = True

    def __init__(self, clock: int | str = CLOCK) -> None:
        if not str(clock).isdecimal() or int(clock) < 2:
            raise CriticError(f"arithmetic: clock={clock!r} must be a whole number of 2 or more")
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
        """Return the critique of one document; status `invalid` without a worked sum."""
        try:
            chains = parse_chains(document.text, self.clock)
        except NotASumError as error:
            return Critique(document.doc_id, status=INVALID, error=str(error))
        steps = [step for chain in chains for step in chain.steps]
        share = sum(step.is_correct(self.clock) for step in steps) / len(steps)
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
            if all(chain.matches_author(defect, self.clock) for chain in chains):
                return defect
        return JUNK if share < JUNK_BELOW else MIXED

    def _span(self, step: WrittenStep, kind: str) -> Span:
        if step.is_correct(self.clock):
            return Span(step.start, step.end, "right")
        sum_text = f"{step.previous} {'+' if step.sign > 0 else '-'} {step.operand}"
        comment = f"{sum_text} is {step.correct_result(self.clock)}, not {step.result}"
        return Span(step.start, step.end, "wrong", kind, comment)
