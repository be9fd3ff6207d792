"""Configuration files: errors of several keys, and files of another kind."""

from pathlib import Path

import pytest

from ixt_data.errors import ConfigError
from ixt_data.mix import load_mix
from ixt_train.config import load_train_config


def test_unknown_keys_of_one_section_share_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text("critic: c\na: 1\nb: 2\ncondition: {kind: both, c: 1, d: 2}\n")
    with pytest.raises(ConfigError) as caught:
        load_mix(path)
    message = str(caught.value)
    assert "unknown keys a, b. Valid: condition, corpus, critic" in message
    assert "unknown keys condition.c, condition.d. Valid: " in message
    assert message.count("Valid:") == 2


def test_config_of_another_kind_is_named(tmp_path: Path) -> None:
    mix, train = tmp_path / "mix.yaml", tmp_path / "run.yaml"
    mix.write_text("critic: rules\nselections: [{name: a, where: 'true', weight: 1}]\n")
    train.write_text("mix: mix.yaml\nrun_folder: runs/first\nduration: 5ba\n")
    with pytest.raises(
        ConfigError, match=r"run\.yaml: this is a train config, not a mix: .*`ixt t"
    ):
        load_mix(train)
    with pytest.raises(
        ConfigError, match=r"mix\.yaml: this is a mix, not a train config: .*`ixt m"
    ):
        load_train_config(mix)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("critic: a\ncritic: b\n", "critic"),
        ("critic: a\ncondition:\n  kind: both\n  kind: score\n", "kind"),
    ],
)
def test_key_that_is_there_twice_is_an_error(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"the key '{key}' is there twice in .*, line "):
        load_mix(path)


def test_merged_keys_of_an_anchor_are_not_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "mix.yaml"
    first = "&a {name: a, where: 'true', weight: 1}"
    path.write_text(f"critic: rules\nselections:\n- {first}\n- {{<<: *a, name: b}}\n")
    assert [one.name for one in load_mix(path).selections] == ["a", "b"]
