"""The folder of a train run: what it began with, so that it can be repeated or goes on."""

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

CONFIG, GIVEN, MIX = "config.yaml", "given.yaml", "mix.yaml"
PLAN, FINGERPRINT = "plan.json", "fingerprint.json"
FEEDBACK, VERSIONS, METRICS = "feedback.json", "versions.json", "metrics.jsonl"
TOKENIZER, MODEL, CACHE, START, TASKS = "tokenizer", "model", "cache", "start", "tasks"
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
_SHOWN = 5


def prepare(folder: Path, fingerprint: Mapping[str, Any], overwrite: bool = False) -> bool:
    """Make the folder, or finds in it the same train run; returns whether there was one.

    Args:
        folder: of the train run.
        fingerprint: everything that its weights depend on, by dotted key.
        overwrite: drop a train run of another fingerprint, and one of the same too.

    Raises:
        FingerprintError: another train run lives there; the message names what differs.
        ConfigError: there are files of somebody else in it.
    """
    known = folder / FINGERPRINT
    if overwrite and known.exists():
        shutil.rmtree(folder)
    if not known.exists():
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(
                f"run_folder: {folder} has files in it but no train run; choose another folder"
            )
        write_json(known, dict(fingerprint))
        return False
    check_same(folder, json.loads(known.read_text()), fingerprint)
    return True


def check_same(place: Path | str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compare the fingerprint of the train run in a place with that of this one.

    Raises:
        FingerprintError: they differ; the message names both, and the keys in which they do.
    """
    now = json.loads(json.dumps(now))
    if before != now:
        raise FingerprintError(
            f"{place} holds another train run, {content_id(before)} instead of {content_id(now)}: "
            f"{differences(before, now)}. "
            "Choose another run_folder, or drop that train run with --overwrite"
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What changed between two flat records, the first few keys of it."""
    keys = [k for k in sorted({*before, *now}) if before.get(k) != now.get(k)]
    shown = [f"{k} was {before.get(k)!r} and is {now.get(k)!r}" for k in keys[:_SHOWN]]
    more = len(keys) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def run_id(folder: Path) -> str:
    """12 hex digits over the fingerprint of the train run in a folder."""
    return content_id(read_json(folder / FINGERPRINT))


def keep_copy(source: Path, target: Path) -> None:
    """Return a copy of a file, whole."""
    if source != target:
        atomic_write(target, lambda partial: shutil.copyfile(source, partial))


def keep_link(source: Path, target: Path) -> None:
    """Return the same file once more, by a hard link where that can be, for files that never change."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        keep_copy(source, target)


def write_json(path: Path, record: Any) -> None:
    """Write a record for people and programs, whole."""
    text = json.dumps(record, indent=2, default=str) + "\n"
    atomic_write(path, lambda partial: partial.write_text(text))


def write_yaml(path: Path, model: BaseModel) -> None:
    """Write a configuration as the YAML that it can be read from."""
    text = yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False)
    atomic_write(path, lambda partial: partial.write_text(text))


def read_json(path: Path) -> Any:
    """Return a record of the run folder.

    Raises:
        ConfigError: it is missing.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: {path.parent} is no whole run folder") from None


def versions() -> dict[str, Any]:
    """Interpreter, machine and libraries."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
