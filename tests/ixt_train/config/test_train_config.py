from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ixt_data.errors import ConfigError
from ixt_train.config.amount import Amount
from ixt_train.config.train_config import load_run_mix, load_train_config

Write = Callable[[dict[str, Any]], Path]


def test_overrides_reach_nested_keys(config_tree: dict[str, Any], write_config: Write) -> None:
    path = write_config(config_tree)
    config = load_train_config(path, ["optimizer.lr=1e-4", "duration=5_000tok", "ema=null"])
    assert config.optimizer.lr == 1e-4
    assert config.duration == Amount(value=5000, unit="tok")
    assert config.ema is None
    assert load_run_mix(config).critic == "arithmetic"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.lrr=1", "optimizer.lrr: unknown key, did you mean 'lr'?"),
        ("duration=soon", "duration: 'soon' is not an amount"),
        ("schedule.warmup=-1", "schedule.warmup: -1 is not an amount"),
        ("model.path=x", "model: give either config or path"),
        ("eval.buckets=[0, 0]", "eval: buckets must ascend"),
        ("packing=squeeze", "packing"),
        ("tokenizer=null", "tokenizer"),
    ],
)
def test_load_train_config_with_a_wrong_key_names_its_path(
    config_tree: dict[str, Any], write_config: Write, override: str, said: str
) -> None:
    with pytest.raises(ConfigError) as error_info:
        load_train_config(write_config(config_tree), [override])
    assert said in str(error_info.value)


def test_paths_of_the_file_and_of_overrides_resolve_separately(
    config_tree: dict[str, Any],
    write_config: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path = write_config(config_tree | {"mix": "mix.yaml", "run_folder": "out"})
    assert load_train_config(path).mix == str(tmp_path / "mix.yaml")
    assert load_train_config(path).run_folder == str(elsewhere / "out")
    assert load_train_config(path, ["mix=mix.yaml"]).mix == str(elsewhere / "mix.yaml")


def test_fingerprint_ignores_settings_without_effect_on_weights(
    config_tree: dict[str, Any], write_config: Write
) -> None:
    path = write_config(config_tree)
    one, other = (load_train_config(path, o) for o in ([], ["eval.every=1", "run_folder=x"]))
    assert one.fingerprint() == other.fingerprint()
    assert one.fingerprint() != load_train_config(path, ["seed=5"]).fingerprint()
