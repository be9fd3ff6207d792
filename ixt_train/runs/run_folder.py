"""The folder of a train run: the records that reproduce or resume it."""

import json
import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from ixt_data.errors import ConfigError, FingerprintError
from ixt_data.records import content_id
from ixt_data.storage import atomic_write

CONFIG, SUBMITTED, MIX = "config.yaml", "submitted.yaml", "mix.yaml"
PLAN, FINGERPRINT = "plan.json", "fingerprint.json"
FEEDBACK, VERSIONS, METRICS = "feedback.json", "versions.json", "metrics.jsonl"
CHECKPOINTS, TOKENIZER, MODEL = "checkpoints", "tokenizer", "model"
CACHE, START, TASKS, PROFILE = "cache", "start", "tasks", "profile"
PAIRS = "pairs.arrow"
_LIBRARIES = (
    "ixt",
    "mosaicml",
    "mosaicml-streaming",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "duckdb",
)
_MAX_SHOWN = 5


def prepare_folder(folder: Path, fingerprint: Mapping[str, Any], overwrite: bool = False) -> bool:
    """Create the run folder, or find the same train run in it; return whether it existed.

    Args:
        folder: the run folder.
        fingerprint: everything that the weights depend on, by dotted key.
        overwrite: delete any train run in the folder first.

    Raises:
        FingerprintError: the folder has another train run; the message names the differences.
        ConfigError: the folder contains files but no train run.
    """
    fingerprint_path = folder / FINGERPRINT
    if overwrite and fingerprint_path.exists():
        shutil.rmtree(folder)
    before = stored_fingerprint(folder)
    if before is None:
        check_free(folder)
        write_json(fingerprint_path, dict(fingerprint))
        return False
    check_fingerprint(folder, before, fingerprint)
    return True


def check_free(folder: Path) -> None:
    """Check that a folder can become a run folder.

    Raises:
        ConfigError: the folder contains files.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(
            f"run_folder: {folder} contains files but no train run; choose another folder"
        )


def stored_fingerprint(folder: Path) -> dict[str, Any] | None:
    """Return the fingerprint of the train run in a folder, or None."""
    path = folder / FINGERPRINT
    return json.loads(path.read_text()) if path.exists() else None


def has_steps(folder: Path) -> bool:
    """Return whether the train run in a folder has a checkpoint or a row of metrics."""
    return (folder / METRICS).exists() or any((folder / CHECKPOINTS).glob("ba*"))


def pinned_snapshot(folder: Path) -> int | None:
    """Return the version of the snapshot that the train run in a folder uses, or None."""
    before = stored_fingerprint(folder)
    return None if before is None else before["snapshot"]


def planned_samples(folder: Path) -> int | None:
    """Return the total draws of the train run in a folder, or None."""
    path = folder / PLAN
    return json.loads(path.read_text())["samples"] if path.exists() else None


def check_fingerprint(
    location: Path | str, before: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Compare the fingerprint of the train run at `location` with the current one.

    Raises:
        FingerprintError: they differ; the message has both ids and the keys that differ.
    """
    now = json.loads(json.dumps(now))
    if before != now:
        raise FingerprintError(
            f"{location} contains another train run, {content_id(before)} instead of "
            f"{content_id(now)}: {differences(before, now)}. "
            "Set these back to resume that train run, or choose another run_folder"
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the first few differences between two flat records as text."""
    keys = [k for k in sorted({*before, *now}) if before.get(k) != now.get(k)]
    listed = [f"{k} was {before.get(k)!r}, is now {now.get(k)!r}" for k in keys[:_MAX_SHOWN]]
    n_more = len(keys) - len(listed)
    return "; ".join(listed) + (f"; and {n_more} more" if n_more else "")


def run_id(folder: Path) -> str:
    """Return 12 hex digits over the fingerprint of the train run in a folder."""
    return content_id(read_json(folder / FINGERPRINT))


def copy_file(source: Path, target: Path) -> None:
    """Copy a file atomically."""
    if source != target:
        atomic_write(target, lambda partial: shutil.copyfile(source, partial))


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link an immutable file, or copy it where hard links are not supported."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        copy_file(source, target)


def write_json(path: Path, record: Any) -> None:
    """Write a human-readable JSON record atomically."""
    text = json.dumps(record, indent=2, default=str) + "\n"
    atomic_write(path, lambda partial: partial.write_text(text))


def write_yaml(path: Path, model: BaseModel) -> None:
    """Write a configuration as YAML that its loader accepts."""
    text = yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False)
    atomic_write(path, lambda partial: partial.write_text(text))


def read_json(path: Path) -> Any:
    """Read a JSON record of the run folder.

    Raises:
        ConfigError: the file is missing.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing: {path.parent} is not a complete run folder"
        ) from None


def versions() -> dict[str, Any]:
    """Return the versions of interpreter, machine and libraries."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "libraries": {name: _library_version(name) for name in _LIBRARIES},
    }


def _library_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
