"""A store below a prefix of a bucket, in anything that speaks S3 and has conditional writes.

The only module that imports boto3. Credentials, region and endpoint come from where boto3 finds
them (`S3_ENDPOINT_URL`, which streaming reads too, counts first), and no message repeats what the
place or the library says beyond its error code: some of them quote requests.
"""

import errno
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from ixt_data.errors import ConfigError, MissingExtra, StoreError
from ixt_data.storage.base import StoredFile
from ixt_data.storage.cache import FileCache

try:
    from boto3.exceptions import Boto3Error
    from boto3.s3.transfer import TransferConfig, create_transfer_manager
    from boto3.session import Session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    raise MissingExtra("boto3", "s3") from None

T = TypeVar("T")

ATTEMPTS = 8
TIMEOUT = 60.0
CONNECTIONS = 16
PAUSE = 16.0
"""How long the loser of a race pauses at most, in times of what its request took."""

BATCH = 1000
"""Keys in one request to delete; the protocol allows no more."""

_MULTIPART = 16 << 20
_CHUNK = 1 << 20
_ADDRESS = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{1,254})((?:/[^/?#\s]+)*)/?")
_ABSENT = ("NoSuchKey", "NotFound", "404")
_HINTS = {
    "NoSuchBucket": "Make the bucket first",
    "NotImplemented": "A store needs conditional writes, which this place does not have",
    **dict.fromkeys(
        ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"),
        "Check the credentials that boto3 finds, and what they allow",
    ),
    "NoCredentialsError": "Give them as for any AWS tool: environment, profile, or role",
    "EndpointConnectionError": "Check AWS_ENDPOINT_URL and the network",
}


class S3Storage:
    """Keys as objects: created by `If-None-Match: *`, and read back where that leaves a doubt.

    Requests that fail by overload, a server's error, or a lost connection are sent again, by boto3:
    `AWS_MAX_ATTEMPTS` times (8 by default), each after a longer and random pause. `IXT_S3_TIMEOUT`
    is how many seconds without an answer count as lost (60 by default).
    """

    def __init__(self, root: str, cache: FileCache | None = None) -> None:
        """A place at an address.

        Raises:
            StoreError: the address is not `s3://bucket/prefix`.
            ConfigError: a setting of the environment is not a number.
        """
        match = _ADDRESS.fullmatch(root)
        if match is None:
            raise StoreError(f"{root!r} is not an address such as s3://bucket/prefix")
        self._bucket, self._prefix = match[1], match[2].lstrip("/")
        self.root = f"s3://{match[1]}{match[2]}"
        self._process, self._made = os.getpid(), _client()
        # Another endpoint with a bucket of this name is another place.
        self._cache = cache or FileCache(f"{self._made.meta.endpoint_url} {self.root}")

    @property
    def client(self) -> Any:
        """The boto3 client of this process: connections do not survive a fork."""
        if self._process != os.getpid():
            self._process, self._made = os.getpid(), _client()
        return self._made

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["root"])  # type: ignore[misc]

    def create(self, key: str, data: bytes) -> bool:
        """See `Storage.create`: a conditional PUT."""
        for attempt in range(ATTEMPTS):
            started = time.monotonic()
            try:
                self.client.put_object(**self._at(key), Body=data, IfNoneMatch="*")
                return True
            except ClientError as error:
                if _status(error) == 412:
                    # If an earlier attempt's answer was lost, what is there may be our own.
                    sent_before = attempt or error.response["ResponseMetadata"]["RetryAttempts"]
                    if sent_before and self._holds(key, data):
                        return True
                    # While all race for the next key, most attempts are requests in vain.
                    took = time.monotonic() - started
                    time.sleep(random.uniform(0, min(1.0, PAUSE * took)))
                    return False
                if _status(error) != 409:
                    raise self._explained(key, error) from None
            except BotoCoreError as error:
                raise self._explained(key, error) from None
            # 409: another conditional write of this key is under way, and may fail.
            _pause(attempt)
        raise StoreError(f"{self.root}/{key}: S3 answered Conflict {ATTEMPTS} times. Try again")

    def _holds(self, key: str, data: bytes) -> bool:
        return self._read_if_there(key) == data

    def replace(self, key: str, data: bytes) -> None:
        """See `Storage.replace`."""
        with self._explaining(key):
            self.client.put_object(**self._at(key), Body=data)

    def read(self, key: str) -> bytes:
        """See `Storage.read`."""
        return self._whole(key, lambda body: bytes(body.read()))

    @contextmanager
    def stream(self, key: str) -> Iterator[Any]:
        """See `Storage.stream`."""
        with self._explaining(key):
            body = self.client.get_object(**self._at(key))["Body"]
        with closing(body):
            yield body

    def read_all(self, keys: Iterable[str]) -> list[bytes | None]:
        """See `Storage.read_all`: at most `CONNECTIONS` at a time."""
        keys = list(keys)
        if len(keys) == 1:
            return [self._read_if_there(keys[0])]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return list(pool.map(self._read_if_there, keys))

    def _read_if_there(self, key: str) -> bytes | None:
        try:
            return self.read(key)
        except FileNotFoundError:
            return None

    def _whole(self, key: str, use: Callable[[Any], T]) -> T:
        """What `use` makes of an object's body; boto3 does not ask again when one breaks off."""
        with self._explaining(key):
            for attempt in range(ATTEMPTS):
                body = self.client.get_object(**self._at(key))["Body"]
                try:
                    with body:
                        return use(body)
                except BotoCoreError:
                    if attempt == ATTEMPTS - 1:
                        raise
                _pause(attempt)
        raise AssertionError("unreachable")

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        try:
            with self._explaining(key):
                self.client.head_object(**self._at(key))
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """See `Storage.list`."""
        start = len(self._key(""))
        with self._explaining(prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._key(f"{prefix}/" if prefix else "")
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    modified = item["LastModified"].timestamp()
                    yield StoredFile(item["Key"][start:], item["Size"], modified)

    def after(self, key: str) -> tuple[str, ...]:
        """See `Storage.after`."""
        start, folder = len(self._key("")), key.rpartition("/")[0]
        with self._explaining(key):
            page = self.client.list_objects_v2(
                Bucket=self._bucket,
                Prefix=self._key(f"{folder}/"),
                StartAfter=self._key(key),
                MaxKeys=2,
            )
        return tuple(item["Key"][start:] for item in page.get("Contents", ()))

    def delete(self, *keys: str) -> None:
        """See `Storage.delete`."""
        if len(keys) == 1:
            with self._explaining(keys[0]):
                self.client.delete_object(**self._at(keys[0]))
            return
        for start in range(0, len(keys), BATCH):
            self._delete_batch(keys[start : start + BATCH])

    def _delete_batch(self, keys: tuple[str, ...]) -> None:
        start = len(self._key(""))
        for attempt in range(ATTEMPTS):
            objects = [{"Key": self._key(key)} for key in keys]
            with self._explaining(keys[0]):
                answer = self.client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True}
                )
            failed = answer.get("Errors")
            if not failed:
                return
            keys = tuple(error["Key"][start:] for error in failed)
            if not {error["Code"] for error in failed} <= {"InternalError", "SlowDown"}:
                break
            _pause(attempt)
        raise StoreError(f"{self.root}/{keys[0]}: S3 answered {failed[0]['Code']} to a delete")

    def publish(self, files: Mapping[str, Path]) -> None:
        """See `Storage.publish`: all at once, large files in parts."""
        if not files:
            return
        config = TransferConfig(
            multipart_threshold=_MULTIPART,
            multipart_chunksize=_MULTIPART,
            max_concurrency=CONNECTIONS,
            preferred_transfer_client="classic",
        )
        with (
            self._explaining(next(iter(files))),
            create_transfer_manager(self.client, config) as manager,
        ):
            uploads = [
                manager.upload(str(path), self._bucket, self._key(key))
                for key, path in files.items()
            ]
            for upload in uploads:
                upload.result()

    def scratch(self, name: str) -> Path:
        """See `Storage.scratch`."""
        return Path(tempfile.mkdtemp(prefix=f"ixt-{name}-"))

    def local(self, key: str) -> Path:
        """See `Storage.local`: from the cache of this machine. Raises FileNotFoundError."""
        return self._cache.get(key, partial(self._download, key))

    def local_files(self, keys: Iterable[str]) -> dict[str, Path]:
        """See `Storage.local_files`."""
        keys = list(keys)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return dict(zip(keys, pool.map(self.local, keys), strict=True))

    @contextmanager
    def original(self, key: str) -> Iterator[Path]:
        """See `Storage.original`: downloaded for this alone. Raises FileNotFoundError."""
        with tempfile.TemporaryDirectory(prefix="ixt-") as folder:
            path = Path(folder, PurePosixPath(key).name)
            self._download(key, path)
            yield path

    def _download(self, key: str, target: Path) -> None:
        def save(body: Any) -> None:
            with target.open("wb") as file:
                for chunk in body.iter_chunks(_CHUNK):
                    file.write(chunk)

        self._whole(key, save)

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._key(key)}

    @contextmanager
    def _explaining(self, key: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError, Boto3Error) as error:
            raise self._explained(key, error) from None

    def _explained(self, key: str, error: Exception) -> Exception:
        """Our own error for one of boto3's: FileNotFoundError or StoreError."""
        where = f"{self.root}/{key}"
        if isinstance(error, ClientError):
            code = error.response["Error"].get("Code", "Unknown")
            if code in _ABSENT:
                return FileNotFoundError(errno.ENOENT, "No such file", where)
            what = f"S3 answered {code} (HTTP {_status(error)})"
        else:
            code = type(error).__name__
            what = f"S3 cannot be reached ({code})"
        return StoreError(f"{where}: {what}. {_HINTS.get(code, 'Try again later')}")


def _client() -> Any:
    config = Config(
        connect_timeout=_setting("IXT_S3_TIMEOUT", TIMEOUT),
        read_timeout=_setting("IXT_S3_TIMEOUT", TIMEOUT),
        max_pool_connections=2 * CONNECTIONS,
        retries={
            "mode": "standard",
            "total_max_attempts": int(_setting("AWS_MAX_ATTEMPTS", ATTEMPTS)),
        },
    )
    try:
        return Session().client(
            "s3", config=config, endpoint_url=os.environ.get("S3_ENDPOINT_URL") or None
        )
    except (BotoCoreError, ValueError) as error:
        raise StoreError(
            f"boto3 finds no usable settings for S3 ({type(error).__name__})"
        ) from None


def _setting(name: str, default: float) -> float:
    try:
        return float(os.environ.get(name) or default)
    except ValueError:
        raise ConfigError(f"{name} is {os.environ[name]!r}, not a number") from None


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0, min(5.0, 0.1 * 2**attempt)))
