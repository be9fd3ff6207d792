"""Run folders: the fingerprint of a train run, and files of others."""

from pathlib import Path

import pytest

from ixt_data.errors import ConfigError, FingerprintError
from ixt_train.runs import run_folder


def test_prepare_folder_with_another_train_run_raises(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert not run_folder.prepare_folder(folder, {"optimizer.lr": 0.1, "seed": 1})
    assert run_folder.prepare_folder(folder, {"optimizer.lr": 0.1, "seed": 1})
    with pytest.raises(FingerprintError, match=r"optimizer.lr was 0.1, is now 0.2"):
        run_folder.prepare_folder(folder, {"optimizer.lr": 0.2, "seed": 1})
    assert not run_folder.prepare_folder(folder, {"optimizer.lr": 0.2, "seed": 1}, overwrite=True)


def test_prepare_folder_with_other_files_raises_and_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="no train run"):
            run_folder.prepare_folder(tmp_path, {}, overwrite)
    assert (tmp_path / "thesis.tex").exists()
