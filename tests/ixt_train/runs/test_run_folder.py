"""Run folders: the fingerprint of a train run, and files of others."""

from pathlib import Path

import pytest

from ixt_data.errors import ConfigError, FingerprintError
from ixt_train.runs import run_folder


def test_another_train_run_in_the_folder_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert not run_folder.prepare_folder(folder, {"optimizer.lr": 0.1, "seed": 1})
    assert run_folder.prepare_folder(folder, {"optimizer.lr": 0.1, "seed": 1})
    with pytest.raises(FingerprintError, match=r"optimizer.lr was 0.1 and is 0.2"):
        run_folder.prepare_folder(folder, {"optimizer.lr": 0.2, "seed": 1})
    assert not run_folder.prepare_folder(folder, {"optimizer.lr": 0.2, "seed": 1}, overwrite=True)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="no train run"):
            run_folder.prepare_folder(tmp_path, {}, overwrite)
    assert (tmp_path / "thesis.tex").exists()
