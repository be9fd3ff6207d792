from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ixt_data.errors import ConfigError, FingerprintError
from ixt_train.config.train_config import Amount, load_mix_of, load_train_config
from ixt_train.runs import run_folder

Write = Callable[[dict[str, Any]], Path]


def test_overrides_reach_nested_keys(config_tree: dict[str, Any], write_config: Write) -> None:
    path = write_config(config_tree)
    config = load_train_config(path, ["optimizer.lr=1e-4", "duration=5_000tok", "ema=null"])
    assert config.optimizer.lr == 1e-4
    assert config.duration == Amount(value=5000, unit="tok")
    assert config.ema is None
    assert load_mix_of(config).critic == "arithmetic"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.lrr=1", "optimizer.lrr: unknown key, did you mean 'lr'?"),
        ("duration=soon", "duration: 'soon' is no amount"),
        ("schedule.warmup=-1", "schedule.warmup: -1 is no amount"),
        ("model.path=x", "model: give either config or path"),
        ("eval.buckets=[0, 0]", "eval: buckets must ascend"),
        ("packing=squeeze", "packing"),
        ("fsdp={}", "ema does not work with fsdp"),
        ("tokenizer=null", "tokenizer"),
    ],
)
def test_a_wrong_key_is_named_with_its_path(
    config_tree: dict[str, Any], write_config: Write, override: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_train_config(write_config(config_tree), [override])
    assert said in str(caught.value)


def test_inputs_are_found_from_the_file_and_overrides_from_here(
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


def test_what_the_weights_do_not_depend_on_may_change(
    config_tree: dict[str, Any], write_config: Write
) -> None:
    path = write_config(config_tree)
    one, other = (load_train_config(path, o) for o in ([], ["eval.every=1", "run_folder=x"]))
    assert one.fingerprint() == other.fingerprint()
    assert one.fingerprint() != load_train_config(path, ["seed=5"]).fingerprint()


def test_another_train_run_in_the_folder_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert not run_folder.prepare(folder, {"optimizer.lr": 0.1, "seed": 1})
    assert run_folder.prepare(folder, {"optimizer.lr": 0.1, "seed": 1})
    with pytest.raises(FingerprintError, match=r"optimizer.lr was 0.1 and is 0.2"):
        run_folder.prepare(folder, {"optimizer.lr": 0.2, "seed": 1})
    assert not run_folder.prepare(folder, {"optimizer.lr": 0.2, "seed": 1}, overwrite=True)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="no train run"):
            run_folder.prepare(tmp_path, {}, overwrite)
    assert (tmp_path / "thesis.tex").exists()
