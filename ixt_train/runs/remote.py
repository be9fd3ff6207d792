"""A run folder on S3: complete checkpoints are uploaded there, and a resume downloads them."""

import json
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, TypeVar

from ixt_data.errors import ConfigError, CorruptError, FingerprintError
from ixt_data.storage import atomic_write, open_storage
from ixt_train.runs import checkpoints, draws, run_folder
from ixt_train.runs.checkpoints import (
    check_checkpoint,
    checkpoint_step,
    delete_checkpoint,
    list_checkpoints,
    partial_path,
)
from ixt_train.runs.rejections import REJECTED
from ixt_train.runs.rewinds import REWINDS

T = TypeVar("T")

# Records are in these folders and files; caches and logs stay on the machine.
_FOLDERS = (draws.FOLDER, run_folder.TOKENIZER, run_folder.MODEL, run_folder.TASKS)


class Remote:
    """The remote copy of one run folder; only the first rank opens it."""

    def __init__(self, root: str, folder: Path) -> None:
        """Open both sides; this sends no request yet.

        Raises:
            StoreError: the address is wrong, or S3 cannot be reached.
            MissingExtra: boto3 is not installed.
        """
        self.root, self.folder = root, folder
        self._storage = open_storage(root)
        self._pool = ThreadPoolExecutor(1, "upload")
        self._upload: Future[None] | None = None

    def __enter__(self) -> "Remote":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the upload in progress; raise its failure if no other exception is active."""
        self._pool.shutdown()
        if error is None:
            self.wait()

    # Upload

    def push_records(self) -> None:
        """Upload the records that the run folder starts with."""
        top_files = [path for path in self.folder.iterdir() if path.is_file()]
        nested_files = [p for name in _FOLDERS for p in sorted((self.folder / name).glob("*"))]
        if (self.folder / run_folder.PAIRS).exists():
            # Every step of stage preference compares with the initial weights.
            start = sorted((self.folder / run_folder.START).rglob("*"))
            nested_files += [path for path in start if path.is_file()]
        self._publish(path for path in [*top_files, *nested_files] if not path.name.startswith("."))

    def push(self, path: Path, keep: int) -> None:
        """Upload a checkpoint in the background, after the records of its steps.

        Args:
            path: the complete checkpoint; it must exist until `wait` returns.
            keep: number of latest checkpoints that stay in the remote copy.
        """
        self.wait()
        remote = {file.key for file in self._storage.list(draws.FOLDER)}
        local = {f"{draws.FOLDER}/{p.name}": p for p in (self.folder / draws.FOLDER).glob("*.npz")}
        # An interrupted train run recorded steps after its last checkpoint.
        if stale := remote - local.keys():
            self._storage.delete(*stale)
        new_files = [path for key, path in local.items() if key not in remote]
        records = [self.folder / name for name in (run_folder.METRICS, REJECTED, REWINDS)]
        self._publish([*new_files, *(path for path in records if path.exists())])
        self._upload = self._pool.submit(self._push, path, keep)

    def _push(self, path: Path, keep: int) -> None:
        if path.is_dir():
            # The remote copy of a folder is complete with its last file.
            last = path / checkpoints.STATE
            self._publish(file for file in path.iterdir() if file != last)
            self._publish([last])
        else:
            self._publish([path])
        for old in self._checkpoints()[keep:]:
            keys = [file.key for file in self._storage.list(old)] if _is_folder(old) else [old]
            # In the same order: a folder loses this file first.
            keys.sort(key=lambda key: PurePosixPath(key).name != checkpoints.STATE)
            for key in keys:
                self._storage.delete(key)

    def wait(self) -> None:
        """Wait until the upload in progress is complete.

        Raises:
            StoreError: the upload failed.
        """
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.result()

    def _publish(self, paths: Iterable[Path]) -> None:
        files = {path.relative_to(self.folder).as_posix(): path for path in paths}
        self._storage.publish(files)

    def _checkpoints(self) -> list[str]:
        """Return the keys of the remote checkpoints, latest first."""
        keys = [PurePosixPath(file.key) for file in self._storage.list(run_folder.CHECKPOINTS)]
        complete = [key.parent if key.name == checkpoints.STATE else key for key in keys]
        named = {str(key) for key in complete if checkpoints.is_name(key.name)}
        return sorted(named, key=lambda key: checkpoint_step(Path(key)), reverse=True)

    def set_up(self, set_up: Callable[[], T], overwrite: bool) -> T:
        """Call `set_up` on the run folder, after downloading what the remote copy has.

        Raises:
            FingerprintError: the remote copy is another train run.
        """
        is_new = not self.folder.exists()
        pulled = not overwrite and self.pull()
        try:
            result = set_up()
        except FingerprintError as error:
            if pulled and is_new:
                shutil.rmtree(self.folder)
            raise FingerprintError(f"checkpoint.remote: {self.root}: {error}") from None
        if overwrite:
            self.clear()
        self.push_records()
        return result

    def clear(self) -> None:
        """Delete the train run in the remote copy, if it has one."""
        keys = [file.key for file in self._storage.list("")]
        top_files = (*_FOLDERS, run_folder.START, run_folder.CHECKPOINTS)
        own = [
            key
            for key in keys
            if "/" not in key or key.startswith(tuple(f"{t}/" for t in top_files))
        ]
        if run_folder.FINGERPRINT in keys:
            self._storage.delete(*own)

    # Download

    def fingerprint(self) -> dict[str, Any] | None:
        """Return the fingerprint of the train run in the remote copy, or None if it has none."""
        try:
            record: dict[str, Any] = json.loads(self._storage.read(run_folder.FINGERPRINT))
        except FileNotFoundError:
            return None
        return record

    def pull(self) -> bool:
        """Download the train run, unless the local run folder has gone further.

        Returns:
            Whether anything was downloaded.

        Raises:
            FingerprintError: the local and the remote train run differ.
            CorruptError: none of its checkpoints can be read.
        """
        remote = self.fingerprint()
        if remote is None:
            return False
        own_fingerprint = self.folder / run_folder.FINGERPRINT
        if own_fingerprint.exists():
            run_folder.check_fingerprint(self.root, remote, json.loads(own_fingerprint.read_text()))
        latest = self._checkpoints()
        local = list_checkpoints(self.folder)
        if own_fingerprint.exists() and (
            not latest or (local and checkpoint_step(local[0]) >= checkpoint_step(Path(latest[0])))
        ):
            return False
        keys = [file.key for file in self._storage.list("")]
        other_keys = [key for key in keys if not key.startswith(f"{run_folder.CHECKPOINTS}/")]
        step = self._download_checkpoint(latest)
        self._download(
            key for key in other_keys if not draws.is_after(PurePosixPath(key).name, step)
        )
        return True

    def _download_checkpoint(self, keys: list[str]) -> int:
        """Download the latest readable checkpoint; return its step."""
        errors = []
        for key in keys:
            self._download_whole(key)
            try:
                check_checkpoint(self.folder / key)
            except CorruptError as error:
                errors.append(str(error))
                delete_checkpoint(self.folder / key)
                continue
            return checkpoint_step(Path(key))
        if errors:
            raise CorruptError(f"{self.root}: no checkpoint can be read: {errors[0]}")
        return 0

    def _download_whole(self, key: str) -> None:
        """Download a checkpoint; a folder gets its name when it is complete."""
        if not _is_folder(key):
            self._download([key])
            return
        path = self.folder / key
        partial = partial_path(path)
        self._download((file.key for file in self._storage.list(key)), partial)
        partial.replace(path)

    def _download(self, keys: Iterable[str], into: Path | None = None) -> None:
        """Download files to their places, or into one folder."""
        for key in keys:
            path = PurePosixPath(key)
            if path.is_absolute() or ".." in path.parts:
                raise CorruptError(
                    f"{self.root}: the key {key!r} is outside of the run folder (path traversal)"
                )
            with self._storage.original(key) as source:
                target = self.folder / key if into is None else into / path.name
                atomic_write(target, _copier(source))


def _is_folder(key: str) -> bool:
    """Return whether a key is that of a checkpoint in parts."""
    return PurePosixPath(key).suffix == ""


def _copier(source: Path) -> Callable[[Path], object]:
    return lambda partial: shutil.copyfile(source, partial)


def fetch_run(root: str, folder: Path) -> Path:
    """Download a train run from its `checkpoint.remote` into an empty folder.

    Raises:
        ConfigError: the address contains no train run.
    """
    with Remote(root, folder) as remote:
        if not remote.pull():
            raise ConfigError(f"{root}: no train run found; checkpoint.remote writes one")
    return folder
