"""The mixes that ship with ixt."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from small_stores import Length, add_documents
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import MixError
from ixt_data.mix import load_mix, plan_mix
from ixt_data.mix.presets import SPAN_PRESETS, Recipe, anneal_mix, span_mix
from ixt_data.store.store import Store


@pytest.fixture
def judged(store: Store) -> Store:
    """A store of 50 documents, of which 10 are long enough to be good."""
    add_documents(store, [f"{n:02}" + "x" * (8 if n < 10 else 1) for n in range(50)])
    annotate(store, "web", Length())
    return store


def recipe(store: Store, visits: int | None, **changes: object) -> Recipe:
    keys = {"store": str(store.root), "critic": "length", "good": "score >= 1", "visits": visits}
    return Recipe(**(keys | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "visits", "first", "later"),
    [
        ("spans", 240, 1.0, 1.0),
        ("spans", 480, 1.0, 0.2),
        ("spans", 560, 0.2, 0.2),
        ("spans-natural", 240, 0.2, 0.2),
        ("spans-good-first", 1600, 1.0, 0.2),
    ],
)
def test_good_documents_come_first_while_they_last(
    judged: Store, name: str, visits: int, first: float, later: float
) -> None:
    made = span_mix(judged, recipe(judged, visits), SPAN_PRESETS[name])
    plan = plan_mix(made, visits, store=judged)
    shares = [_good_share(plan.order(0)[part]) for part in (slice(0, 80), slice(-80, None))]
    assert shares == pytest.approx([first, later], abs=0.12)


@pytest.mark.parametrize("last", [0.1, 0.5])
def test_anneal_ends_with_the_good_documents_alone(judged: Store, last: float) -> None:
    plan = plan_mix(anneal_mix(judged, recipe(judged, None), last), 200, store=judged)
    end = round(200 * (1 - last))
    drawn = np.concatenate([plan.order(epoch) for epoch in range(plan.epochs)])
    shares = [_good_share(drawn[:end]), _good_share(drawn[end:])]
    assert shares == pytest.approx([0.2, 1.0], abs=0.06)


def _good_share(draws: object) -> float:
    from ixt_data.mix import samples_of

    return float((samples_of(draws) < 10).mean())  # type: ignore[arg-type]


def test_what_cannot_be_made_is_said(judged: Store) -> None:
    with pytest.raises(MixError, match="no document satisfies 'score > 1' by 'length'"):
        span_mix(judged, recipe(judged, 10, good="score > 1"))
    with pytest.raises(MixError, match="visits: 0 must be 1 or more"):
        span_mix(judged, recipe(judged, 0))
    with pytest.raises(MixError, match=r"last: 1\.0 must be a share between 0 and 1"):
        anneal_mix(judged, recipe(judged, None), 1.0)


def test_the_command_prints_a_mix_that_plans(judged: Store, tmp_path: Path) -> None:
    command = ["mix", "preset", "spans", "--store", str(judged.root), "--critic", "length"]
    done = CliRunner().invoke(build(), [*command, "--visits", "320", "--sign", "="])
    assert done.exit_code == 0, done.output
    path = tmp_path / "mix.yaml"
    path.write_text(done.stdout)
    made = load_mix(path)
    assert made == span_mix(judged, recipe(judged, 320, sign="="))
    assert yaml.safe_load(done.stdout)["condition"]["tag_replaces"] == "="
    anneal = [*command[:2], "anneal", *command[3:], "--feedback", "score", "--last", "0.1"]
    done = CliRunner().invoke(build(), anneal)
    assert done.exit_code == 0, done.output
    path.write_text(done.stdout)
    assert load_mix(path).condition.kind == "score"
    assert load_mix(path).store == str(Path(judged.root).resolve())
    assert plan_mix(load_mix(path), 100, store=judged).phases == (0, 90, 100)
    spam = ["mix", "preset", "spam", *command[3:], "--visits", "1"]
    with pytest.raises(MixError, match="preset 'spam' does not exist; valid are anneal, spans"):
        CliRunner().invoke(build(), spam, catch_exceptions=False)
