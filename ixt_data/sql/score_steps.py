"""The bins in which all charts and tables count scores: the nearest tenth, from 0 to 1.

A judge that scores in whole tenths has one bin per score, as a conditioned model reads them. A
score in the middle between two bins is in the upper one.
"""

import math

SCORE_EDGES = tuple((10 * step + 5) / 100 for step in range(10))
"""The lowest score of each bin but the first."""
SCORE_STEPS = len(SCORE_EDGES) + 1
# Comparisons only: a product such as 10 * score is rounded, and would disagree with the edges.
SCORE_STEP = f"({' + '.join(f'(score >= {edge}::DOUBLE)::INTEGER' for edge in SCORE_EDGES)})"
"""SQL: the bin of the column `score`, 0 to 10; NULL without a score."""


def step_bounds(step: int) -> tuple[float | None, float | None]:
    """Return the lowest and the highest score in a bin; None without a bound."""
    low = SCORE_EDGES[step - 1] if step > 0 else None
    high = math.nextafter(SCORE_EDGES[step], 0) if step < len(SCORE_EDGES) else None
    return low, high
