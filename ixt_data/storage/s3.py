"""A storage below a prefix of a bucket, on any S3 service with conditional writes.

The only module that imports boto3. boto3 finds credentials, region and endpoint in its usual
sources; `S3_ENDPOINT_URL`, which mosaicml-streaming reads too, has precedence. Error messages
contain only the service's error code, because some services quote requests in their messages.
"""

import errno
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ixt_data.errors import ConfigError, MissingExtra, StoreError, WriteStateUnknown
from ixt_data.storage.base import StoredFile
from ixt_data.storage.cache import FileCache
from ixt_data.storage.cached import CONNECTIONS, CachedStorage

try:
    from boto3.exceptions import Boto3Error
    from boto3.s3.transfer import TransferConfig, create_transfer_manager
    from boto3.session import Session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as ConnectError
except ImportError:
    raise MissingExtra("boto3", "s3") from None

T = TypeVar("T")

ATTEMPTS = 8
TIMEOUT = 60.0
MAX_PAUSE_FACTOR = 16.0
"""Maximum pause after a lost race, as a multiple of the duration of the request."""

BATCH = 1000
"""Keys per delete request; the protocol allows no more."""

_MULTIPART = 16 << 20
_CHUNK = 1 << 20
_ADDRESS = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{1,254})((?:/[^/?#\s]+)*)/?")
_ABSENT = ("NoSuchKey", "NotFound", "404")
_HINTS = {
    "NoSuchBucket": "Create the bucket first",
    "NotImplemented": "A store needs conditional writes, which this service does not support",
    **dict.fromkeys(
        ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"),
        "Check the credentials that boto3 finds, and their permissions",
    ),
    "NoCredentialsError": "Provide credentials as for any AWS tool: environment, profile, or role",
    "EndpointConnectionError": "Check AWS_ENDPOINT_URL and the network",
}


class S3Storage(CachedStorage):
    """Keys as objects, created by `If-None-Match: *`; ambiguous responses are read back.

    boto3 retries requests that fail by overload, a server error or a lost connection, with growing
    random pauses: `AWS_MAX_ATTEMPTS` attempts, 8 by default. `IXT_S3_TIMEOUT` is the timeout of a
    response in seconds, 60 by default.
    """

    def __init__(self, root: str, cache: FileCache | None = None) -> None:
        """Open the storage at an address.

        Raises:
            StoreError: the address is not `s3://bucket/prefix`.
            ConfigError: an environment variable is not a number.
        """
        match = _ADDRESS.fullmatch(root)
        if match is None:
            raise StoreError(f"{root!r} is not an address such as s3://bucket/prefix")
        self._bucket, self._prefix = match[1], match[2].lstrip("/")
        self._process, self._boto_client = os.getpid(), _client()
        # The same bucket name at another endpoint is another storage.
        name = f"s3://{match[1]}{match[2]}"
        endpoint = self._boto_client.meta.endpoint_url
        super().__init__(name, cache or FileCache(f"{endpoint} {name}"))

    @property
    def client(self) -> Any:
        """The boto3 client of this process: connections do not survive a fork."""
        if self._process != os.getpid():
            self._process, self._boto_client = os.getpid(), _client()
        return self._boto_client

    def create(self, key: str, data: bytes) -> bool:
        """See `Storage.create`: a conditional PUT."""
        for attempt in range(ATTEMPTS):
            start = time.monotonic()
            try:
                self.client.put_object(**self._at(key), Body=data, IfNoneMatch="*")
                return True
            except ClientError as error:
                if _status(error) == 412:
                    # If the response to an earlier attempt was lost, the object may be our own.
                    is_retry = attempt or error.response["ResponseMetadata"]["RetryAttempts"]
                    if is_retry and self._has_content(key, data):
                        return True
                    # The pause reduces useless requests while many writers race for the next key.
                    seconds = time.monotonic() - start
                    time.sleep(random.uniform(0, min(1.0, MAX_PAUSE_FACTOR * seconds)))
                    return False
                if _status(error) != 409:
                    raise self._write_error(key, error) from None
            except BotoCoreError as error:
                raise self._write_error(key, error) from None
            # 409: another conditional write of this key is in progress, and may fail.
            _pause(attempt)
        raise StoreError(f"{self.root}/{key}: S3 returned Conflict {ATTEMPTS} times. Try again")

    def _has_content(self, key: str, data: bytes) -> bool:
        return self._read_optional(key) == data

    def replace(self, key: str, data: bytes) -> None:
        """See `Storage.replace`."""
        with self._translating_errors(key):
            self.client.put_object(**self._at(key), Body=data)

    def read(self, key: str) -> bytes:
        """See `Storage.read`."""
        return self._read_body(key, lambda body: bytes(body.read()))

    @contextmanager
    def stream(self, key: str) -> Iterator[Any]:
        """See `Storage.stream`."""
        with self._translating_errors(key):
            body = self.client.get_object(**self._at(key))["Body"]
        with closing(body):
            yield body

    def _read_body(self, key: str, use: Callable[[Any], T]) -> T:
        """Apply `use` to an object's body; retry a broken body, which boto3 does not."""
        with self._translating_errors(key):
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
            with self._translating_errors(key):
                self.client.head_object(**self._at(key))
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """See `Storage.list`."""
        start = len(self._key(""))
        with self._translating_errors(prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._key(f"{prefix}/" if prefix else "")
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    modified = item["LastModified"].timestamp()
                    yield StoredFile(item["Key"][start:], item["Size"], modified)

    def keys_after(self, key: str) -> tuple[str, ...]:
        """See `Storage.keys_after`."""
        start, folder = len(self._key("")), key.rpartition("/")[0]
        with self._translating_errors(key):
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
            with self._translating_errors(keys[0]):
                self.client.delete_object(**self._at(keys[0]))
            return
        for start in range(0, len(keys), BATCH):
            self._delete_batch(keys[start : start + BATCH])

    def _delete_batch(self, keys: tuple[str, ...]) -> None:
        start = len(self._key(""))
        for attempt in range(ATTEMPTS):
            objects = [{"Key": self._key(key)} for key in keys]
            with self._translating_errors(keys[0]):
                response = self.client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True}
                )
            failed = response.get("Errors")
            if not failed:
                return
            keys = tuple(error["Key"][start:] for error in failed)
            if not {error["Code"] for error in failed} <= {"InternalError", "SlowDown"}:
                break
            _pause(attempt)
        raise StoreError(
            f"{self.root}/{keys[0]}: S3 returned {failed[0]['Code']} for a delete request"
        )

    def publish(self, files: Mapping[str, Path]) -> None:
        """See `Storage.publish`: concurrent uploads, large files in parts."""
        if not files:
            return
        config = TransferConfig(
            multipart_threshold=_MULTIPART,
            multipart_chunksize=_MULTIPART,
            max_concurrency=CONNECTIONS,
            preferred_transfer_client="classic",
        )
        with (
            self._translating_errors(next(iter(files))),
            create_transfer_manager(self.client, config) as manager,
        ):
            uploads = [
                manager.upload(str(path), self._bucket, self._key(key))
                for key, path in files.items()
            ]
            for upload in uploads:
                upload.result()

    def _download(self, key: str, target: Path) -> None:
        def save(body: Any) -> None:
            with target.open("wb") as file:
                for chunk in body.iter_chunks(_CHUNK):
                    file.write(chunk)

        self._read_body(key, save)

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._key(key)}

    @contextmanager
    def _translating_errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError, Boto3Error) as error:
            raise self._translated(key, error) from None

    def _write_error(self, key: str, error: Exception) -> Exception:
        """Translate an error of a write: S3 may perform it after a lost connection or a 5xx."""
        translated = self._translated(key, error)
        if isinstance(error, ClientError):
            is_unknown = _status(error) >= 500
        else:
            is_unknown = isinstance(error, HTTPClientError) and not isinstance(error, ConnectError)
        return WriteStateUnknown(str(translated)) if is_unknown else translated

    def _translated(self, key: str, error: Exception) -> Exception:
        """Translate an error of boto3 to FileNotFoundError or StoreError."""
        where = f"{self.root}/{key}"
        if isinstance(error, ClientError):
            code = error.response["Error"].get("Code", "Unknown")
            if code in _ABSENT:
                return FileNotFoundError(errno.ENOENT, "No such file", where)
            message = f"S3 returned {code} (HTTP {_status(error)})"
        else:
            code = type(error).__name__
            message = f"S3 cannot be reached ({code})"
        return StoreError(f"{where}: {message}. {_HINTS.get(code, 'Try again later')}")


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
