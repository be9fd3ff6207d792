"""Checks before training: none of them imports torch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ixt_data.config import validate
from ixt_data.errors import ConfigError, FingerprintError, StoreError
from ixt_train.config import TrainConfig
from ixt_train.runs import check_train_run, find_model, run_folder


def test_find_model_names_what_it_reads(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"nope does not exist; give a run folder, a checkpoint in its"
    ):
        find_model(tmp_path / "nope")
    with pytest.raises(ConfigError, match=r"is not a run folder"):
        find_model(tmp_path)
    run_folder.write_json(tmp_path / run_folder.FINGERPRINT, {})
    with pytest.raises(ConfigError, match="has no checkpoint yet; continue training"):
        find_model(tmp_path)


def test_check_train_run_refuses_another_run_or_a_missing_snapshot(
    config_tree: dict[str, Any], tmp_path: Path
) -> None:
    def check(overwrite: bool = False, **keys: Any) -> None:
        check_train_run(validate(TrainConfig, config_tree | keys, "test"), overwrite)

    check()
    with pytest.raises(StoreError, match="no tag 'v9'"):
        check(mix=config_tree["mix"] | {"snapshot": "v9"})
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="contains files but no train run"):
        check(run_folder=str(tmp_path / "notes"))
    before = validate(TrainConfig, config_tree, "test").fingerprint()
    run_folder.write_json(tmp_path / "run" / run_folder.FINGERPRINT, before)
    check(max_length=80)
    (tmp_path / "run" / run_folder.METRICS).touch()
    check()
    with pytest.raises(FingerprintError, match=r"max_length was 96, is now 80"):
        check(max_length=80)
    check(max_length=80, overwrite=True)


def test_eval_of_a_missing_model_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom ixt_data.cli.app import main\n"
        f"sys.argv = ['ixt', 'eval', {str(tmp_path / 'nope')!r}]\n"
        "try: main()\nexcept SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 False"
