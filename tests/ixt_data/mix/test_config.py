from pathlib import Path

import pytest

from ixt_data.errors import ConfigError
from ixt_data.mix import Mix, load_mix

DESIGN = """
store: ./ixt
snapshot: web-q2
critic: quality
condition:
  kind: both
  position: prefix
  dropout: 0.1
  loss_on_prefix: 0.0
  loss_by_verdict: {right: 1.0, wrong: 1.0, rest: 1.0}
  cooldown: 0.1
selections:
  - {name: high, where: "score >= 0.8", weight: 0.6, max_repeats: 16}
  - {name: rest, where: "score < 0.8", weight: 0.4}
weighting: {by: score, temperature: null}
schedule: []
seed: 17
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mix.yaml"
    path.write_text(DESIGN)
    return path


def test_the_mix_of_the_design_loads(path):
    mix = load_mix(path)
    assert [s.name for s in mix.selections] == ["high", "rest"]
    assert (mix.selections[0].max_repeats, mix.corpus, mix.seed) == (16, None, 17)
    assert mix == Mix.model_validate(mix.model_dump())


def test_overrides_win(path):
    mix = load_mix(path, ["condition.kind=score", "selections.1.weight=0.1", "corpus=web"])
    assert (mix.condition.kind, mix.selections[1].weight, mix.corpus) == ("score", 0.1, ("web",))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("condition.drop=0.1", r"condition\.drop: unknown key, did you mean 'dropout'"),
        ("selections.1.wher=x", r"selections\.1\.wher: unknown key, did you mean 'where'"),
        ("selections.0.weight=heavy", r"selections\.0\.weight: .*number.*'heavy'"),
        ("selections.0.weight=-1", r"selections\.0\.weight"),
        ("selections.0.max_repeats=99999999999999999999", r"selections\.0\.max_repeats: .*less"),
        ("critic=[]", r"critic: .*\[\] is not a critic, or a list of critics"),
        ("critic=[a, a]", "contains a critic twice"),
        ("condition.kind=all", r"condition\.kind: 'all' is unknown\. .*'none', 'score'"),
        ("schedule=[{share: 0.5, weights: {hihg: 1}}]", r"schedule\.0\.weights\.hihg: no such"),
        ("schedule=[{share: 0.5}, {share: 0.6}]", "more than the whole"),
        (
            "schedule=[{share: 0.5, condition: {cooldown: 0.1}}]",
            r"schedule\.0\.condition\.cooldown",
        ),
        ("critic=null", "critic: missing"),
        ("selections.1.name=high", "'high' is given twice"),
        ("selections=[]", "selections: .*at least 1"),
        ("sed=3", r"sed: unknown key, did you mean 'seed'"),
        ("selections.7.weight=1", "key '7' does not exist"),
        ("seed", "key=value"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(path, override, said):
    with pytest.raises(ConfigError, match=said):
        load_mix(path, [override])


def test_errors_name_the_file(path, tmp_path):
    with pytest.raises(ConfigError, match=str(path)):
        load_mix(path, ["nonsense=1"])
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        load_mix(tmp_path / "absent.yaml")
    path.write_text("- a list")
    with pytest.raises(ConfigError, match="must contain a YAML mapping"):
        load_mix(path)
    path.write_text("store: [")
    with pytest.raises(ConfigError, match=str(path)):
        load_mix(path)


def test_a_phase_changes_only_the_keys_it_names(path):
    mix = load_mix(path, ["schedule=[{share: 0.25, condition: {kind: none}}]"])
    phase, rest = mix.phases()
    assert (mix.condition_in(phase).kind, mix.condition_in(phase).cooldown) == ("none", 0.1)
    assert (rest.share, mix.condition_in(rest)) == (0.75, mix.condition)


def test_store_is_relative_to_the_file_of_the_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mixes").mkdir()
    path = tmp_path / "mixes" / "mix.yaml"
    monkeypatch.chdir(tmp_path)
    found = {}
    for store in ("../S", "/data/S", "s3://bucket/S", "S"):
        path.write_text(f"store: {store}\ncondition: {{kind: none}}\n")
        found[store] = load_mix("mixes/mix.yaml").store
    assert found == {
        "../S": str(tmp_path / "S"),
        "/data/S": "/data/S",
        "s3://bucket/S": "s3://bucket/S",
        "S": str(tmp_path / "mixes" / "S"),
    }
    assert load_mix("mixes/mix.yaml", ["store=S"]).store == str(tmp_path / "S")
    path.write_text("condition: {kind: none}\n")
    assert load_mix("mixes/mix.yaml").store == str(tmp_path / "ixt")
