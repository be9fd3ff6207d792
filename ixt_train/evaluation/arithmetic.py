"""The held-out problems of the corpus "clock arithmetic", which the engine knows without a file.

A problem is one chain of 6 steps, or as many as asked for, on a clock of 40 numbers, operands 1 to
9. The problems come from a fixed seed, are the same for every corpus with as long chains, and never
occur in one.
"""

import random

from ixt_data.critics import CLOCK, GOOD, Operation, write_results

STEPS = 6
OPERANDS = range(1, 10)
HELD_OUT_SEED = 7
PROBLEMS = 400
"""How many the built-in task asks."""

Sum = tuple[int, tuple[Operation, ...]]
"""A start number and the operations after it."""


def draw_sum(rng: random.Random, steps: int = STEPS) -> Sum:
    """Return one chain without its results."""
    start = rng.randrange(CLOCK)
    return start, tuple((rng.choice((1, -1)), rng.choice(OPERANDS)) for _ in range(steps))


def held_out_sums(count: int, steps: int = STEPS) -> list[Sum]:
    """Return the first `count` distinct sums of the held-out task, the same for every corpus."""
    rng = random.Random(HELD_OUT_SEED)
    sums: dict[Sum, None] = {}
    while len(sums) < count:
        sums[draw_sum(rng, steps)] = None
    return list(sums)


def task_segments(problem: Sum) -> list[list[str]]:
    """Return a sum as [given text, right answer] pairs: `[["17 + 5 =", "22"], ["- 8 =", "14"]]`."""
    start, operations = problem
    givens = [f"{'+' if sign > 0 else '-'} {operand} =" for sign, operand in operations]
    givens[0] = f"{start} {givens[0]}"
    answers = write_results(GOOD, start, operations)
    return [[given, str(answer)] for given, answer in zip(givens, answers, strict=True)]
