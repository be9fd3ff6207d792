import jsonschema
import pytest
from pydantic import ValidationError

from ixt_data.errors import ConfigError
from ixt_data.mix import Mix, build_condition, load_mix, parse_condition
from ixt_data.mix.condition import KINDS, NoFeedback, SpanFeedback, change_condition
from ixt_data.mix.config import Phase

VALUES = {
    "dropout": 0.2,
    "loss_on_prefix": 0.5,
    "tag_replaces": "=",
    "position": "append",
    "repeat_every": 7,
    "template": "plain",
    "noisy": 0.5,
    "feedback": "best",
    "bins": "quantile",
    "edges": [0.5],
    "loss_by_verdict": {"wrong": 0.0},
    "verdict_after": "=",
    "cooldown": 0.2,
}
FOREIGN = [
    (kind, key) for kind, model in KINDS.items() for key in VALUES if key not in model.model_fields
]
OWN = [(kind, key) for kind in KINDS for key in VALUES if (kind, key) not in FOREIGN]
OTHERS = {"edges": {"bins": "quantile"}}


@pytest.mark.parametrize(("kind", "key"), FOREIGN)
def test_key_that_a_kind_does_not_have_is_refused(tmp_path, kind, key):
    path = tmp_path / "mix.yaml"
    path.write_text("critic: c\n")
    overrides = [f"condition.kind={kind}", f"condition.{key}={VALUES[key]!r}"]
    message = f"condition.{key}: kind {kind!r} has no {key}, only "
    with pytest.raises(ConfigError, match=message):
        load_mix(path, overrides)
    with pytest.raises(ConfigError, match=f"schedule.0.{message}"):
        load_mix(path, [f"schedule=[{{share: 0.5, condition: {{kind: {kind}, {key}: 1}}}}]"])
    with pytest.raises(ValidationError, match=f"kind {kind!r} has no {key}, only "):
        KINDS[kind](**{"kind": kind, key: VALUES[key]})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"condition": {"kind": kind, key: VALUES[key]}}, SCHEMA)


@pytest.mark.parametrize(("kind", "key"), OWN)
def test_key_that_a_kind_has_is_read(kind, key):
    tree = {"kind": kind, key: VALUES[key], **OTHERS.get(key, {})}
    condition = build_condition(**tree)
    assert type(condition) is KINDS[kind]
    assert condition.model_dump(mode="json")[key] == VALUES[key]
    jsonschema.validate({"condition": tree, "schedule": [{"share": 1, "condition": {}}]}, SCHEMA)


def test_kind_is_both_by_default_and_otherwise_one_of_the_known():
    assert Mix(critic="c", condition={"dropout": 0.5}).condition == build_condition(dropout=0.5)
    jsonschema.validate({"condition": {"dropout": 0.5}}, SCHEMA)
    with pytest.raises(
        ConfigError, match=r"card: kind: 'text' is unknown\. Valid: 'none', 'score'"
    ):
        parse_condition({"kind": "text"}, "card")
    with pytest.raises(ConfigError, match=r"card: drop: unknown key, did you mean 'dropout'"):
        parse_condition({"kind": "spans", "drop": 1}, "card")


def test_change_of_kind_retains_the_keys_that_both_kinds_have():
    score = build_condition(kind="score", bins="threshold", edges=[0.5], dropout=0.4, cooldown=0)
    assert change_condition(score, {"kind": "none"}) == NoFeedback(kind="none", cooldown=0)
    assert change_condition(score, {"kind": "spans"}) == SpanFeedback(
        kind="spans", dropout=0.4, cooldown=0
    )
    assert change_condition(score, {"kind": "both"}).edges == (0.5,)
    assert change_condition(score, {"bins": "raw"}).edges == ()


def test_mix_with_phases_is_equal_after_a_dump():
    phases = (Phase(share=0.5, condition={"kind": "score", "bins": "quantile"}),)
    mix = Mix(critic="c", schedule=phases)
    for dump in (mix.model_dump(), mix.model_dump(exclude_defaults=True)):
        assert mix == Mix.model_validate(dump)
    filled = mix.with_edges((0.25, 0.5))
    assert filled.condition_in(filled.schedule[0]).edges == (0.25, 0.5)
    assert filled.condition.edges == ()
    assert not filled.lacks_edges()


SCHEMA = Mix.model_json_schema()
