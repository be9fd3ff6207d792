"""Bins of scores: a bin holds exactly the scores within its bounds."""

import math

import duckdb

from ixt_data.sql.score_steps import SCORE_STEP, SCORE_STEPS, step_bounds


def test_bounds_hold_exactly_the_scores_of_the_bin() -> None:
    edges = [step / 20 for step in range(21)]
    scores = sorted(
        {
            *(i / 1000 for i in range(1001)),
            *edges,
            *(math.nextafter(edge, 2) for edge in edges),
            *(math.nextafter(edge, -1) for edge in edges),
        }
    )
    rows = duckdb.execute(
        f"SELECT score, {SCORE_STEP} FROM (SELECT unnest($1::DOUBLE[]) AS score)", [scores]
    ).fetchall()
    assert {step for _, step in rows} == set(range(SCORE_STEPS))
    for score, step in rows:
        inside = [
            number
            for number in range(SCORE_STEPS)
            if (bounds := step_bounds(number))
            and (bounds[0] is None or score >= bounds[0])
            and (bounds[1] is None or score <= bounds[1])
        ]
        assert inside == [step], score
