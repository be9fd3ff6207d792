"""The held-out problems of the corpus "clock arithmetic", generated without a file.

A problem is one chain of 6 steps (or another number) on a clock of 40 numbers, with operands 1 to
9. A fixed seed generates the problems. They are the same for every corpus with chains of the same
length, and never occur in one.
"""

import random

from ixt_data.critics import CLOCK, GOOD, Operation, write_results

STEPS = 6
OPERANDS = range(1, 10)
HELD_OUT_SEED = 7
PROBLEMS = 400
"""Number of problems in the built-in task."""

Sum = tuple[int, tuple[Operation, ...]]
"""A start number and the operations after it."""


def draw_sum(rng: random.Random, steps: int = STEPS) -> Sum:
    """Draw one chain without its results."""
    start = rng.randrange(CLOCK)
    return start, tuple((rng.choice((1, -1)), rng.choice(OPERANDS)) for _ in range(steps))


def held_out_sums(count: int, steps: int = STEPS) -> list[Sum]:
    """Return the first `count` distinct sums of the held-out task."""
    rng = random.Random(HELD_OUT_SEED)
    sums: dict[Sum, None] = {}
    while len(sums) < count:
        sums[draw_sum(rng, steps)] = None
    return list(sums)


def task_segments(problem: Sum) -> list[list[str]]:
    """Return a sum as [given, answer] pairs: `[["17 + 5 =", "22"], ["- 8 =", "14"]]`."""
    start, operations = problem
    givens = [f"{'+' if sign > 0 else '-'} {operand} =" for sign, operand in operations]
    givens[0] = f"{start} {givens[0]}"
    answers = write_results(GOOD, start, operations)
    return [[given, str(answer)] for given, answer in zip(givens, answers, strict=True)]
