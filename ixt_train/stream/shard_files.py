"""The files of a plan's shards: copied from the store into a local folder, every byte checked.

The local folder is the only state that the processes of a machine share. A file is there when it
is complete. Its time of modification is the time of its last use, for eviction.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock
from streaming.base.compression import decompress
from streaming.base.format import FileInfo
from streaming.base.format.mds import MDSReader
from streaming.base.hashing import get_hash
from streaming.base.storage import CloudDownloader
from streaming.base.util import retry

from ixt_data.errors import ConfigError, CorruptError, IxtError, StoreError
from ixt_data.storage import read_remote

_REMEDY = "Restore it from a copy; `ixt verify` finds every shard like it"
_PARTIAL, _DOWNLOAD, _LOCK = ".partial", ".download", ".lock"
_POLL_SECONDS = 0.01
# Fewer shards than this would evict each other before they are read.
_MIN_SHARDS = 4


class ShardFiles:
    """A local folder with the uncompressed files of shards, up to a limit of bytes."""

    def __init__(
        self,
        root: str,
        local: Path,
        external: Mapping[str, str],
        *,
        max_bytes: int | None,
        timeout: float,
        retries: int,
    ) -> None:
        """Set where the files are and where they are copied to.

        Args:
            root: root of the store: a folder or an address such as `s3://bucket/prefix`.
            local: folder that only this train run, on this snapshot, uses.
            external: address by basename of files that are not at `root / basename`.
            max_bytes: maximum bytes in `local`; None sets no limit.
            timeout: seconds per download.
            retries: attempts per download.
        """
        self.root, self.local, self.external = root.rstrip("/"), local, external
        self.max_bytes, self.timeout, self.retries = max_bytes, timeout, retries

    def check_limit(self, largest: int) -> None:
        """Refuse a limit that a few shards of `largest` bytes, raw and compressed, exceed.

        Raises:
            ConfigError: the limit is too low.
        """
        if self.max_bytes is not None and self.max_bytes < _MIN_SHARDS * largest:
            raise ConfigError(
                f"cache_limit: {self.max_bytes:,} bytes is too low. Set at least "
                f"{_MIN_SHARDS * largest:,}, {_MIN_SHARDS} times the largest shard"
            )

    def path(self, file: FileInfo) -> Path:
        """Return the path of an uncompressed file in the local folder."""
        return Path(self.local, file.basename)

    def fetch(self, part: MDSReader) -> None:
        """Copy one file here, or wait for the process that copies it; return if it is here.

        Raises:
            StoreError: the file is missing or cannot be downloaded.
            CorruptError: the file was changed.
        """
        target = self.path(part.raw_data)
        if target.is_file():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        # The lock ends with its process: a killed one leaves only an empty file.
        with FileLock(f"{target}{_LOCK}"):
            if not target.is_file():
                self._copy(part, target)

    def touch(self, path: Path) -> None:
        """Mark a file as used now, if it is still here."""
        with suppress(FileNotFoundError):
            os.utime(path, follow_symlinks=False)

    @property
    def bytes_used(self) -> int:
        """Bytes of all files, and of the space that copies in progress have reserved."""
        return sum(size for _, size, _ in self._cached())

    def remove_partial_files(self) -> None:
        """Delete the reserved space of killed processes; no process may be copying."""
        for suffix in (_PARTIAL, _DOWNLOAD):
            for path in self.local.rglob(f"*{suffix}"):
                path.unlink(missing_ok=True)

    def _copy(self, part: MDSReader, target: Path) -> None:
        raw, compressed = part.raw_data, part.zip_data
        stored = compressed or raw
        with self._reserved(target, raw.bytes + (compressed.bytes if compressed else 0)) as partial:
            data = self._read(stored, partial)
            self._check(stored, data)
            if compressed is not None:
                try:
                    data = decompress(part.compression, data)
                except Exception as error:
                    raise CorruptError(f"{self._address(stored)}: {error}. {_REMEDY}") from None
            elif not self._is_remote(raw) and raw.basename not in self.external:
                # An uncompressed file of a store on this machine: link to it, do not copy it.
                target.unlink(missing_ok=True)
                target.symlink_to(Path(self._address(raw)).absolute())
                return
            if len(data) != raw.bytes:
                raise CorruptError(
                    f"{self._address(stored)}: {len(data)} bytes unpacked instead of {raw.bytes}. "
                    f"{_REMEDY}"
                )
            partial.write_bytes(data)
            partial.replace(target)

    @contextmanager
    def _reserved(self, target: Path, size: int) -> Iterator[Path]:
        """Reserve space for a file; yield the path to write it to, before it is renamed."""
        partial = target.with_name(f".{target.name}.{os.getpid()}{_PARTIAL}")
        while not self._reserve(partial, size):
            time.sleep(_POLL_SECONDS)
        try:
            yield partial
        finally:
            partial.unlink(missing_ok=True)

    def _reserve(self, partial: Path, size: int) -> bool:
        """Evict the coldest files until `size` bytes fit; return False while they cannot."""
        if self.max_bytes is None:
            return True
        with FileLock(self.local / ".cache.lock"):
            cached = self._cached()
            used = sum(size for _, size, _ in cached)
            evictable = sorted(entry for entry in cached if entry[2].suffix != _PARTIAL)
            for _, file_size, path in evictable:
                if used + size <= self.max_bytes:
                    break
                path.unlink(missing_ok=True)
                used -= file_size
            if used + size > self.max_bytes:
                return False
            with partial.open("wb") as file:
                file.truncate(size)
            return True

    def _cached(self) -> list[tuple[int, int, Path]]:
        """Return time of last use, size and path of every file that counts for the limit."""
        cached = []
        for folder, _, names in os.walk(self.local):
            if folder == str(self.local):
                continue
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):
                    # The reserved space of a download counts, not the download.
                    if not name.endswith((_LOCK, _DOWNLOAD)):
                        cached.append((path.lstat().st_mtime_ns, path.stat().st_size, path))
        return cached

    def _read(self, file: FileInfo, partial: Path) -> bytes:
        source = self._address(file)
        if self._is_remote(file):
            return self._download(source, partial.with_suffix(_DOWNLOAD))
        try:
            return Path(source).read_bytes()
        except FileNotFoundError:
            raise StoreError(f"{source}: missing. {_REMEDY}") from None
        except OSError as error:
            raise StoreError(f"{source}: {error}. {_REMEDY}") from None

    def _download(self, source: str, target: Path) -> bytes:
        if source.startswith(("gs://", "az://")):
            try:
                return read_remote(source)
            except (IxtError, OSError) as error:
                raise StoreError(f"{source}: cannot be downloaded: {error}. {_REMEDY}") from None
        downloader = _downloader(source)

        def download_once() -> None:
            downloader.download(source, str(target), self.timeout)

        try:
            retry(clean_up_fn=downloader.clean_up, num_attempts=self.retries)(download_once)()
            return target.read_bytes()
        except Exception as error:
            raise StoreError(f"{source}: cannot be downloaded: {error!r}. {_REMEDY}") from error
        finally:
            target.unlink(missing_ok=True)

    def _check(self, file: FileInfo, data: bytes) -> None:
        if len(data) != file.bytes:
            raise CorruptError(
                f"{self._address(file)}: {len(data)} bytes instead of {file.bytes}. {_REMEDY}"
            )
        for algorithm, expected in file.hashes.items():
            if get_hash(algorithm, data) != expected:
                raise CorruptError(f"{self._address(file)}: its {algorithm} is wrong. {_REMEDY}")

    def _address(self, file: FileInfo) -> str:
        """Return the path or address of a file."""
        return self.external.get(file.basename) or f"{self.root}/{file.basename}"

    def _is_remote(self, file: FileInfo) -> bool:
        return "://" in self._address(file)


# Clients are not safe to share between threads or to send to other processes.
_downloaders = threading.local()


def _downloader(address: str) -> CloudDownloader:
    by_scheme = _downloaders.__dict__.setdefault("by_scheme", {})
    scheme = address.partition("://")[0]
    if scheme not in by_scheme:
        by_scheme[scheme] = CloudDownloader.get(address)
    return by_scheme[scheme]
