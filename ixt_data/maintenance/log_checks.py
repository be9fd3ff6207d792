"""Checks of the log, its checkpoints and pins, and the states that a damaged log still defines."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import PurePosixPath

from ixt_data.errors import CorruptError
from ixt_data.log import Records, RowsFile, ShardInfo, Snapshot, checkpoint, commit_log
from ixt_data.maintenance.verify_report import VerifyProblem
from ixt_data.store import Store


def check_pins(store: Store) -> tuple[list[int], list[VerifyProblem]]:
    """Return the versions of pins, and the problems of pins."""
    try:
        pins = store.pins.all().values()
    except CorruptError as error:
        path, _, what = str(error).partition(": ")
        what, _, remedy = what.partition(". ")
        return [], [VerifyProblem(path, what, 0, remedy)]
    newest, now = readable_state(store).version, datetime.now(UTC)
    versions = {pin.version for pin in pins if pin.is_valid(now)}
    remedy = "restore the log from a backup, or remove the pin"
    return sorted(v for v in versions if 0 < v <= newest), [
        VerifyProblem(
            f"_pins/{pin.name}.json", f"pins version {pin.version}, which does not exist", 0, remedy
        )
        for pin in pins
        if pin.version > newest
    ]


def retained_state(store: Store, newest: Snapshot, pinned: Iterable[int]) -> Snapshot:
    """Return the latest state plus the files that only older retained or pinned versions reference.

    It does not contain files that a repair removed from the state.
    """
    older = [store.snapshot(v) for v in sorted({newest.min_version, *pinned}) if v]
    lost: set[str] = set()
    rows: dict[str, RowsFile] = {}
    shards: dict[str, ShardInfo] = {}
    first = min((state.version for state in older), default=0)
    for entry in store.log.entries(first + 1, newest.version):
        lost.update(entry.shards_remove if entry.op == "repair" else ())
        if entry.version > newest.min_version:
            rows |= {file.path: file for file in entry.rows_add}
            shards |= {shard.path: shard for shard in entry.shards_add}
    for state in older:
        rows, shards = {**state.rows, **rows}, {**state.shards_by_path, **shards}
    shards = {path: shard for path, shard in shards.items() if path not in lost}
    state = newest.copy()
    state.rows, state.shards_by_path = Records(), Records()
    state.rows.add({**rows, **newest.rows}.items())
    # Text shards first, as in every state: aligned shards are compared with them.
    state.shards_by_path.add({**shards, **newest.shards_by_path}.items())
    return state


def check_log(store: Store) -> Iterator[VerifyProblem]:
    """Yield truncated or changed entries, gaps, and entries that are missing at the end."""
    present = {file.key for file in store.storage.list("_log") if file.key.endswith(".json")}
    newest = max((int(PurePosixPath(key).stem) for key in present), default=0)
    remedy = "restore this file from a backup; every later version depends on it"
    for start in range(1, newest + 1, commit_log.READ_BATCH):
        versions = range(start, min(start + commit_log.READ_BATCH, newest + 1))
        for version, data in zip(
            versions, store.storage.read_all(map(commit_log.key, versions)), strict=True
        ):
            key = commit_log.key(version)
            if data is None:
                yield VerifyProblem(key, "missing, but newer entries exist", 0, remedy)
                continue
            try:
                commit_log.parse(version, data)
            except CorruptError as error:
                yield VerifyProblem(key, str(error).removeprefix(f"{key}: "), 0, remedy)
    references = {commit_log.LAST: store.log.hint()} | {
        file.key: int(folder)
        for file in store.storage.list("_checkpoint")
        if (folder := file.key.split("/")[1]).isdigit() and file.key.endswith("/state.json")
    }
    for reference, version in references.items():
        if version > newest:
            yield VerifyProblem(
                commit_log.key(version), f"missing, but {reference} refers to it", 0, remedy
            )


def readable_state(store: Store) -> Snapshot:
    """Return the latest state; if log or checkpoints are damaged, that of the readable entries."""
    try:
        return store.snapshot()
    except CorruptError:
        pass
    state = Snapshot()
    keys = sorted(file.key for file in store.storage.list("_log") if file.key.endswith(".json"))
    for key in keys:
        version = int(PurePosixPath(key).stem)
        try:
            state.apply(store.log.read(version))
        except CorruptError:
            state.version = version
    return state


def check_checkpoints(store: Store, newest: int) -> Iterator[VerifyProblem]:
    """Yield checkpoints with files that do not match their state.json."""
    remedy = "ixt verify --repair rebuilds it from the log"
    damaged = set[str]()
    for version in range(checkpoint.EVERY, newest + 1, checkpoint.EVERY):
        try:
            checkpoint.read(store.storage, version)
        except FileNotFoundError:
            continue
        except (CorruptError, ValueError, KeyError) as error:
            path = str(error).split(": ")[0]
            if not path.startswith("_checkpoint/"):
                path = checkpoint.key(version, "state.json")
            # Several checkpoints may continue a damaged one.
            if path not in damaged:
                damaged.add(path)
                yield VerifyProblem(path, "truncated, changed or missing", 0, remedy)
