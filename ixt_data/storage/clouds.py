"""A storage below a prefix of a bucket of Google Cloud Storage, or of a container of Azure.

Requests, credentials and retries are those of obstore: `GOOGLE_*` and `AZURE_*` variables of the
environment, or the machine's own identity.
"""

import errno
import os
import random
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ixt_data.errors import StoreError, WriteStateUnknown
from ixt_data.storage.base import StoredFile
from ixt_data.storage.cache import FileCache
from ixt_data.storage.cached import CONNECTIONS, CachedStorage
from ixt_data.storage.remote_files import (
    RemoteFile,
    check_process,
    error_line,
    open_bucket,
)

ATTEMPTS = 8
MAX_PAUSE_FACTOR = 16.0
"""Maximum pause after a lost race, as a multiple of the duration of the request."""

_ADDRESS = re.compile(r"(gs|az)://([A-Za-z0-9][A-Za-z0-9._-]{1,254})((?:/[^/?#\s]+)*)/?")
_CHUNK = 1 << 20
_LISTED = 2


class CloudStorage(CachedStorage):
    """Keys as objects, created on the condition that they do not exist.

    After a fork, the connections of the parent cannot be used: every call raises a StoreError.
    """

    def __init__(self, root: str, cache: FileCache | None = None) -> None:
        """Open the storage at an address.

        Raises:
            StoreError: the address is not `gs://bucket/prefix` or `az://container/prefix`.
            MissingExtra: obstore is not installed.
        """
        match = _ADDRESS.fullmatch(root)
        if match is None:
            raise StoreError(f"{root!r} is not an address such as gs://bucket/prefix")
        check_process(root)
        self._bucket = open_bucket(match[1], match[2])
        self._once = open_bucket(match[1], match[2], retries=0)
        self._prefix = match[3].lstrip("/")
        name = f"{match[1]}://{match[2]}{match[3]}"
        super().__init__(name, cache or FileCache(f"{_endpoint(match[1])} {name}"))

    def create(self, key: str, data: bytes) -> bool:
        """See `Storage.create`: a conditional put, without the repetitions of obstore.

        A repeated put whose first response was lost finds its own object, so each failure is
        followed by a read.
        """
        from obstore.exceptions import AlreadyExistsError

        for attempt in range(ATTEMPTS):
            start = time.monotonic()
            try:
                self._call("put", key, data, client=self._once, mode="create", use_multipart=False)
            except AlreadyExistsError:
                # The pause reduces useless requests while many writers race for the next key.
                seconds = time.monotonic() - start
                time.sleep(random.uniform(0, min(1.0, MAX_PAUSE_FACTOR * seconds)))
                return attempt > 0 and self._read_optional(key) == data
            except StoreError as error:
                failure = error
            else:
                return True
            try:
                present = self._read_optional(key)
            except StoreError as error:
                raise WriteStateUnknown(f"{failure}; and it cannot be read: {error}") from None
            if present is not None:
                return present == data
            time.sleep(random.uniform(0, min(5.0, 0.1 * 2**attempt)))
        raise WriteStateUnknown(str(failure))

    def replace(self, key: str, data: bytes) -> None:
        """See `Storage.replace`."""
        self._call("put", key, data)

    def read(self, key: str) -> bytes:
        """See `Storage.read`."""
        return bytes(self._call("get", key).bytes())

    @contextmanager
    def stream(self, key: str) -> Iterator[BinaryIO]:
        """See `Storage.stream`."""
        meta = self._call("head", key)
        file = RemoteFile(
            self._bucket, self._key(key), f"{self.root}/{key}", meta["size"], meta["e_tag"]
        )
        with file.open() as opened:
            yield opened

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        try:
            self._call("head", key)
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """See `Storage.list`."""
        start = len(self._key(""))
        for batch in self._list(prefix, None):
            for item in batch:
                modified = item["last_modified"].timestamp()
                yield StoredFile(item["path"][start:], item["size"], modified)

    def keys_after(self, key: str) -> tuple[str, ...]:
        """See `Storage.keys_after`."""
        start = len(self._key(""))
        batch: Any = next(iter(self._list(key.rpartition("/")[0], key)), ())
        return tuple(item["path"][start:] for item in batch[:_LISTED])

    def _list(self, prefix: str, after: str | None) -> Iterator[Any]:
        import obstore

        check_process(self.root)
        offset = None if after is None else self._key(after)
        try:
            yield from obstore.list(
                self._bucket, self._key(prefix).rstrip("/") or None, offset=offset
            )
        except Exception as error:
            raise self._translated(prefix, error) from None

    def delete(self, *keys: str) -> None:
        """See `Storage.delete`."""
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(self._delete, keys))

    def _delete(self, key: str) -> None:
        try:
            self._call("delete", key)
        except FileNotFoundError:
            return

    def publish(self, files: Mapping[str, Path]) -> None:
        """See `Storage.publish`: concurrent uploads, large files in parts."""
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(lambda pair: self._call("put", *pair), files.items()))

    def _download(self, key: str, target: Path) -> None:
        with self.stream(key) as source, target.open("wb") as file:
            while chunk := source.read(_CHUNK):
                file.write(chunk)

    def _call(
        self, name: str, key: str, *arguments: Any, client: Any = None, **options: Any
    ) -> Any:
        """Send one request; translate its errors to FileNotFoundError or StoreError."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        check_process(self.root)
        try:
            return getattr(obstore, name)(
                client or self._bucket, self._key(key), *arguments, **options
            )
        except AlreadyExistsError:
            raise
        except Exception as error:
            raise self._translated(key, error) from None

    def _translated(self, key: str, error: Exception) -> Exception:
        where = f"{self.root}/{key}"
        if isinstance(error, FileNotFoundError):
            return FileNotFoundError(errno.ENOENT, "No such file", where)
        return StoreError(f"{where}: {error_line(error)}")


def _endpoint(scheme: str) -> str:
    """Return what tells two services of one kind apart, such as an emulator and the cloud."""
    names = {
        "gs": ("GOOGLE_BASE_URL", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY"),
        "az": (
            "AZURE_STORAGE_ACCOUNT_NAME",
            "AZURE_STORAGE_ENDPOINT",
            "AZURE_STORAGE_USE_EMULATOR",
        ),
    }
    return " ".join(os.environ.get(name, "") for name in names[scheme])
