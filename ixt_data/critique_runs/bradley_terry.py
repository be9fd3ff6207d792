"""Pairs of documents to compare, and the Bradley-Terry model of the results.

One random ring over all documents connects them, so any number of pairs gives strengths on one
scale. The other pairs are random: such a graph has short paths between any two documents.

Bradley and Terry 1952 (doi 10.2307/2334029): the second document wins with the probability
1 / (1 + exp(first - second)) of the strengths. The fit is the algorithm of Hunter 2004 (doi
10.1214/aos/1079120141). One tied game of each document against one of strength 0 keeps the
strength of a document finite that wins all of its games.
"""

import random

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MAX_ROUNDS = 50
"""Draws of new partners for documents whose pair is there already."""

MAX_STEPS = 20_000
TOLERANCE = 1e-6
"""Largest change of a strength in the last step."""


def design_pairs(n: int, per_document: int, seed: int) -> list[tuple[int, int]]:
    """Return distinct pairs that connect all documents, each pair once.

    Args:
        n: number of documents, 2 or more.
        per_document: pairs that each document is in, 2 or more; a few documents may be in fewer,
            because a pair that is drawn twice counts once.
        seed: of the draws.
    """
    if per_document >= n - 1:
        return [(a, b) for a in range(n) for b in range(a + 1, n)]
    dice, order = random.Random(seed), list(range(n))
    dice.shuffle(order)
    ring = zip(order, [*order[1:], order[0]], strict=True)
    pairs = {(min(pair), max(pair)): None for pair in ring}
    open_ends = [*range(n)] * (per_document - 2)
    for _ in range(MAX_ROUNDS):
        dice.shuffle(open_ends)
        rest = open_ends[len(open_ends) // 2 * 2 :]
        for a, b in zip(open_ends[::2], open_ends[1::2], strict=False):
            if a == b or (min(a, b), max(a, b)) in pairs:
                rest += [a, b]
            else:
                pairs[min(a, b), max(a, b)] = None
        open_ends = rest
    return list(pairs)


def fit_strengths(n: int, first: Ints, second: Ints, second_wins: Floats) -> Floats:
    """Return the strength of each document, around 0.

    Args:
        n: number of documents.
        first: document of each game.
        second: its opponent.
        second_wins: share of the game that the second document wins, 0 to 1.
    """
    wins = np.bincount(first, 1 - second_wins, n) + np.bincount(second, second_wins, n) + 0.5
    power = np.ones(n)
    for _ in range(MAX_STEPS):
        odds = 1 / (power[first] + power[second])
        expected = np.bincount(first, odds, n) + np.bincount(second, odds, n) + 1 / (power + 1)
        updated = wins / expected
        change = np.abs(np.log(updated / power)).max(initial=0.0)
        power = updated
        if change < TOLERANCE:
            break
    strengths: Floats = np.log(power)
    return strengths


def largest_component(n: int, first: Ints, second: Ints) -> npt.NDArray[np.bool_]:
    """Return which documents are in the largest set that games connect.

    Strengths of two sets without a game between them cannot be compared.

    Args:
        n: number of documents.
        first: document of each game.
        second: its opponent.
    """
    parent = list(range(n))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        parent[root(a)] = root(b)
    roots = np.array([root(node) for node in range(n)])
    is_largest: npt.NDArray[np.bool_] = roots == np.bincount(roots).argmax()
    return is_largest
