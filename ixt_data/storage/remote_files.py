"""Files at addresses: inputs and exports on S3, GCS, Azure, the web and the Hugging Face hub.

The only module that imports obstore and huggingface_hub. docs/design/007-remote-files.md says why.
"""

import errno
import fnmatch
import io
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

from ixt_data.errors import IxtError, MissingExtra, StoreError

BUCKETS = ("s3", "gs", "az")
SCHEMES = (*BUCKETS, "https", "http", "hf")
ATTEMPTS = 8
"""Attempts to continue a read that the network has cut, without a byte in between."""

_CHUNK = 1 << 20
_HUB = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.*))?")


class RemoteFile:
    """One file at an address, with the members of `Path` that readers of inputs use.

    Attributes:
        address: the address, as messages show it.
        size: bytes of the file.
        name: the last part of its path.
        parts: all parts of its address.
    """

    def __init__(self, store: Any, key: str, address: str, size: int, etag: str | None) -> None:
        self._store, self._key, self._etag = store, key, etag
        self.address, self.size = address, size
        path = PurePosixPath(key or urlsplit(address).path)
        self.name, self.suffix = path.name, path.suffix
        self.parts = tuple(part for part in address.split("/") if part)

    def __fspath__(self) -> str:
        return self.address

    __str__ = __fspath__

    @property
    def identity(self) -> list[Any]:
        """What the content depends on: address, size and ETag."""
        return [self.address, self.size, self._etag]

    def stat(self) -> SimpleNamespace:
        """Return the size, as `Path.stat` does."""
        return SimpleNamespace(st_size=self.size)

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """Open the file for reading from its start to its end."""
        return io.BufferedReader(_Reader(self), _CHUNK)

    def chunks(self, start: int) -> Iterator[bytes]:
        """Yield the bytes from a position.

        Raises:
            OSError: the file cannot be read, or has changed since it was found.
        """
        import obstore
        from obstore.exceptions import PreconditionError

        options: Any = {"range": {"offset": start}} if start else {}
        if self._etag:
            options["if_match"] = self._etag
        try:
            for chunk in obstore.get(self._store, self._key, options=options).stream(_CHUNK):
                yield bytes(chunk)
        except PreconditionError:
            raise OSError(errno.ESTALE, "it changed while it was read", self.address) from None
        except Exception as error:
            raise OSError(errno.EIO, error_line(error), self.address) from None


class _Reader(io.RawIOBase):
    """A sequential reader that continues where the network cut it."""

    def __init__(self, file: RemoteFile) -> None:
        self._file, self._at, self._left = file, 0, b""
        self._chunks: Iterator[bytes] = iter(())
        self._failures = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left and self._at < self._file.size:
            try:
                self._left = next(self._chunks, b"")
                if not self._left:
                    self._chunks = self._file.chunks(self._at)
                    self._left = next(self._chunks, b"")
                if not self._left:
                    raise OSError(errno.EIO, "the file ends early", self._file.address)
            except OSError as error:
                self._failures += 1
                self._chunks = iter(())
                if error.errno == errno.ESTALE or self._failures >= ATTEMPTS:
                    raise
                continue
            self._failures = 0
            self._at += len(self._left)
        n = min(len(buffer), len(self._left))
        buffer[:n], self._left = self._left[:n], self._left[n:]
        return n


def is_address(name: str | os.PathLike[str]) -> bool:
    """Return whether a name is an address such as `s3://bucket/key`, not a path."""
    return "://" in os.fspath(name)


def find_remote(address: str) -> list[RemoteFile]:
    """Return the file at an address; or all files below it, or that match it, sorted.

    Files below it whose name or folder starts with `.` or `_` are left out.

    Raises:
        IxtError: nothing is there, or the address cannot be read.
        MissingExtra: a package for this kind of address is not installed.
    """
    if address.startswith("hf://"):
        return _find_on_hub(address)
    store, key, root = _open(address)
    if root.startswith("http"):
        return [_head(store, key, address)]
    pattern = key if re.search(r"[*?\[]", key) else None
    if pattern is None and key and not key.endswith("/"):
        try:
            return [_head(store, key, address)]
        except FileNotFoundError:
            pass
    prefix = re.split(r"[*?\[]", key)[0].rpartition("/")[0] if pattern else key.rstrip("/")
    found = []
    for meta in _list(store, prefix, address):
        inside = meta["path"].removeprefix(f"{prefix}/" if prefix else "")
        if pattern and not fnmatch.fnmatchcase(meta["path"], pattern):
            continue
        if not any(part.startswith((".", "_")) for part in inside.split("/")):
            found.append(
                RemoteFile(
                    store, meta["path"], f"{root}/{meta['path']}", meta["size"], meta["e_tag"]
                )
            )
    if not found:
        raise IxtError(f"input {address}: no such file, and no files below it")
    return sorted(found, key=lambda file: file.address)


def _find_on_hub(address: str) -> list[RemoteFile]:
    MissingExtra.require("remote", "obstore", "huggingface_hub")
    from huggingface_hub import HfApi, get_token, hf_hub_url

    if (match := _HUB.fullmatch(address)) is None:
        raise IxtError(f"input {address}: an address is hf://datasets/OWNER/NAME[@REVISION]/PATH")
    endpoint = os.environ.get("HF_ENDPOINT")
    repository, revision, path = match[1], match[2], (match[3] or "").rstrip("/")
    try:
        tree = HfApi(endpoint=endpoint).list_repo_tree(
            repository, recursive=True, revision=revision, repo_type="dataset"
        )
        names = [item.path for item in tree if hasattr(item, "size")]
    except Exception as error:
        raise IxtError(f"input {address}: {error_line(error)}") from None
    files = []
    for name in sorted(names):
        if fnmatch.fnmatchcase(name, path) or not path or name.startswith(f"{path}/"):
            inside = name.removeprefix(path)
            if name != path and re.search(r"(^|/)([._]|README|LICENSE)", inside):
                continue
            url = hf_hub_url(
                repository, name, repo_type="dataset", revision=revision, endpoint=endpoint
            )
            store, key, _ = _open(url, get_token())
            own = f"hf://datasets/{repository}{f'@{revision}' if revision else ''}/{name}"
            files.append(_head(store, key, own))
    if not files:
        raise IxtError(f"input {address}: no such file in the dataset, and no files below it")
    return files


def exists_below(address: str) -> list[str]:
    """Return the keys, relative to an address, of the file there or of the files below it."""
    store, key, _ = _open(address)
    try:
        _head(store, key, address)
    except FileNotFoundError:
        return [meta["path"].removeprefix(f"{key}/") for meta in _list(store, key, address)]
    return [""]


def read_remote(address: str) -> bytes:
    """Return the bytes at an address.

    Raises:
        FileNotFoundError: nothing is there.
        OSError: it cannot be read.
    """
    store, key, _ = _open(address)
    return b"".join(_head(store, key, address).chunks(0))


def upload(file: Path, address: str) -> None:
    """Write a local file to an address, in parts if it is large; it appears when it is complete.

    Raises:
        OSError: the service refuses it.
    """
    import obstore

    store, key, _ = _open(address)
    try:
        obstore.put(store, key, file)
    except Exception as error:
        raise OSError(errno.EIO, error_line(error), address) from None


def delete_remote(address: str) -> None:
    """Delete the file at an address."""
    import obstore

    store, key, _ = _open(address)
    obstore.delete(store, key)


def _head(store: Any, key: str, address: str) -> RemoteFile:
    import obstore
    from obstore.exceptions import NotFoundError

    try:
        meta = obstore.head(store, key)
    except (NotFoundError, FileNotFoundError):
        raise FileNotFoundError(errno.ENOENT, "no such file", address) from None
    except Exception as error:
        raise OSError(errno.EIO, error_line(error), address) from None
    return RemoteFile(store, key, address, meta["size"], meta["e_tag"])


def _list(store: Any, prefix: str, address: str) -> Iterator[Any]:
    import obstore

    try:
        for batch in obstore.list(store, prefix or None):
            yield from batch
    except Exception as error:
        raise OSError(errno.EIO, error_line(error), address) from None


def _open(address: str, token: str | None = None) -> tuple[Any, str, str]:
    """Return the store of an address, the key in it, and the address of the store."""
    MissingExtra.require("remote", "obstore")
    check_process(address)
    parts = urlsplit(address)
    if parts.scheme not in SCHEMES or not parts.netloc:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES if scheme != "http")
        raise IxtError(f"{address}: not an address that can be read; valid are {known}")
    root = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme in BUCKETS:
        return open_bucket(parts.scheme, parts.netloc), address[len(root) + 1 :], root
    if parts.query:
        raise IxtError(f"{address.partition('?')[0]}: an address with ? is not supported")
    return _web(root, token), unquote(parts.path).lstrip("/"), root


def check_process(address: str) -> None:
    """Check that obstore works in this process: its threads do not survive a fork.

    Raises:
        StoreError: the process is a fork of one that has used obstore.
    """
    if _first_process.setdefault("id", os.getpid()) != os.getpid():
        raise StoreError(
            f"{address}: a forked process cannot use the connections of its parent. Start workers "
            "with the method spawn or forkserver"
        )


_first_process: dict[str, int] = {}


@cache
def open_bucket(scheme: str, name: str, retries: int = 10) -> Any:
    """Return obstore's client of a bucket, or of a container.

    Args:
        scheme: `s3`, `gs` or `az`.
        name: the bucket.
        retries: how often a failed request is repeated.

    Raises:
        StoreError: the settings in the environment are wrong.
        MissingExtra: obstore is not installed.
    """
    MissingExtra.require("remote", "obstore")
    from obstore.store import AzureStore, GCSStore, S3Store

    try:
        if scheme == "s3":
            return S3Store(name, **_s3_settings())
        kind = GCSStore if scheme == "gs" else AzureStore
        return kind(name, retry_config={"max_retries": retries})
    except Exception as error:
        raise StoreError(f"{scheme}://{name}: {error_line(error)}") from None


def _s3_settings() -> dict[str, Any]:
    settings: dict[str, Any] = {}
    endpoint = os.environ.get("S3_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        settings["endpoint"] = endpoint
        settings["client_options"] = {"allow_http": endpoint.startswith("http://")}
    try:
        # boto3 finds profiles and roles, and renews credentials that expire.
        from obstore.auth.boto3 import Boto3CredentialProvider

        settings["credential_provider"] = Boto3CredentialProvider()
    except (ImportError, ValueError):
        pass
    return settings


@cache
def _web(root: str, token: str | None) -> Any:
    from obstore.store import HTTPStore

    options: Any = {"allow_http": root.startswith("http://")}
    if token:
        options["default_headers"] = {"authorization": f"Bearer {token}"}
    return HTTPStore(root, client_options=options)


def error_line(error: Exception) -> str:
    """Return the first line of an error, without what a service quotes."""
    return " ".join(str(error).split("\n")[0].split())[:300]
