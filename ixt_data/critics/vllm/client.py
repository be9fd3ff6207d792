"""HTTP client for the servers of a judge. The only module that imports aiohttp, on first use."""

import asyncio
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import SplitResult, urlsplit

import orjson

from ixt_data.errors import CriticError, describe_failure

if TYPE_CHECKING:
    import ssl

    import aiohttp

CONNECT_SECONDS = 10.0
MAX_RESPONSE_BYTES = 32 << 20
"""Bytes of a response, unpacked, that are read at most. A critique has some kilobytes."""

MAX_FILE_BYTES = 2 << 30
"""Bytes of a file that is downloaded, unpacked."""

REDACTED = b"[IXT_API_KEY]"
"""Stands for the key wherever a server repeats it."""

PROBE_SECONDS = 5.0


class EndpointUnreachable(Exception):
    """The connection could not be opened, so the request was not sent."""


class ConnectionBroken(Exception):
    """The connection broke while the request was in flight."""


class ResponseTooLarge(ConnectionBroken):
    """The response is larger than `MAX_RESPONSE_BYTES`; the rest was not read."""


class RequestTimeout(Exception):
    """The complete response did not arrive in time."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response.

    Attributes:
        status: HTTP status code.
        body: raw bytes of the body.
        retry_after: seconds until the server wants another request, None if it does not say.
    """

    status: int
    body: bytes
    retry_after: float | None = None

    def json(self) -> Any:
        """Return the body parsed as JSON, None if it is not JSON.

        Invalid characters, such as half of a surrogate pair, become U+FFFD.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            pass
        try:
            return without_surrogates(json.loads(self.body.decode(errors="replace")))
        except (ValueError, RecursionError):
            return None


def without_surrogates(value: Any) -> Any:
    """Return a JSON value whose texts can be encoded: lone surrogates become U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [without_surrogates(one) for one in value]
    if isinstance(value, dict):
        return {without_surrogates(k): without_surrogates(one) for k, one in value.items()}
    return value


def check_endpoints(urls: Sequence[str]) -> list[str]:
    """Return the addresses of servers without trailing slashes.

    Raises:
        CriticError: one is not the address of a server up to `/v1`, has a key, or is there twice.
    """
    found = [url.strip().rstrip("/") for url in urls]
    for url in found:
        _check_address(url, "--endpoint")
        parts = urlsplit(url)
        if parts.username or parts.password:
            raise CriticError(
                f"--endpoint {_without_user(parts)}: the address has a key in it, which every user "
                "of this machine can read. Set IXT_API_KEY or give --api-key-file"
            )
        if parts.query or parts.fragment or parts.path.endswith("/completions"):
            raise CriticError(
                f"--endpoint {_without_user(parts)}: give the address up to /v1, without the path "
                "of a request and without parameters"
            )
        if found.count(url) > 1:
            raise CriticError(f"--endpoint {url} is given twice")
    return found


def _check_address(url: str, option: str) -> None:
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        shown = url.rpartition("@")[2]
        raise CriticError(f"{option} {shown!r} is not an address such as http://127.0.0.1:8000/v1")


def _without_user(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def server_root(url: str) -> str:
    """Return the root of a `/v1` address, where `/health`, `/metrics` and `/tokenize` are."""
    return url.rstrip("/").removesuffix("/v1")


@dataclass(frozen=True)
class ConnectionOptions:
    """How the servers are reached.

    Attributes:
        proxy: address of an HTTP proxy.
        ca_file: PEM file with the certificates of the authorities to trust, instead of the
            system's.
        client_cert: PEM file with this client's certificate and key, for mutual TLS.

    Raises:
        CriticError: the proxy is not an address of HTTP.
    """

    proxy: str | None = None
    ca_file: str | None = None
    client_cert: str | None = None

    def __post_init__(self) -> None:
        if self.proxy is not None:
            _check_address(self.proxy, "--proxy")

    def ssl_context(self) -> "ssl.SSLContext | bool":
        """Return the TLS settings; True means those of the system.

        Raises:
            CriticError: a file cannot be read as certificates.
        """
        if self.ca_file is None and self.client_cert is None:
            return True
        import ssl

        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.client_cert is not None:
                context.load_cert_chain(self.client_cert)
        except OSError as error:
            files = " and ".join(filter(None, (self.ca_file, self.client_cert)))
            reason = describe_failure(error)
            raise CriticError(f"{files} cannot be read as certificates: {reason}") from None
        return context


class Client:
    """HTTP requests to any number of endpoints over pooled connections.

    No proxy, certificate or password is taken from the environment, and no redirect is followed:
    documents go only to the address that the user gave.

    Args:
        api_key: sent as a bearer token. No response, error or log message contains it.
        connection: proxy and certificates.
    """

    def __init__(
        self, api_key: str | None = None, connection: ConnectionOptions | None = None
    ) -> None:
        self._key = api_key
        self._connection = connection or ConnectionOptions()
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, timeout: float) -> HttpResponse:
        """Send a POST request with a JSON body.

        Args:
            url: complete address.
            body: JSON, encoded.
            timeout: seconds until the complete response must have arrived.

        Raises:
            EndpointUnreachable: the request was not sent.
            ConnectionBroken: the connection broke before the response was complete.
            ResponseTooLarge: the response is too large.
            CriticError: the server redirects to another address.
            RequestTimeout: the response is not complete after `timeout` seconds.
        """
        return await self._request("POST", url, body, timeout)

    async def get(self, url: str, timeout: float = PROBE_SECONDS) -> HttpResponse:
        """Send a GET request; raises the same errors as `post`."""
        return await self._request("GET", url, None, timeout)

    async def upload(
        self, url: str, fields: Mapping[str, str], path: Path, timeout: float
    ) -> HttpResponse:
        """Send a file as a form; raises the same errors as `post`.

        Args:
            url: complete address.
            fields: the other fields of the form.
            path: the file; it is read while it is sent.
            timeout: seconds until the complete response must have arrived.
        """
        import aiohttp

        with path.open("rb") as file:
            form = aiohttp.FormData(dict(fields))
            form.add_field("file", file, filename=path.name, content_type="application/jsonl")
            return await self._request("POST", url, form, timeout)

    async def download(self, url: str, file: BinaryIO, timeout: float) -> HttpResponse:
        """Write a body to a file while it arrives; raises the same errors as `post`.

        Args:
            url: complete address.
            file: gets the body of a response with status 200; other bodies are returned.
            timeout: seconds until the complete response must have arrived.
        """
        return await self._request("GET", url, None, timeout, file)

    def explain(self, url: str, reason: str) -> str:
        """Return why a server does not respond, with the option that may be missing."""
        is_refused = "disconnected" in reason or "alert" in reason.lower()
        if url.startswith("https:") and is_refused and self._connection.client_cert is None:
            reason += ". If the server wants a certificate of its clients, give --client-cert"
        return f"{url}: {reason}"

    async def _request(
        self,
        method: str,
        url: str,
        body: "bytes | aiohttp.FormData | None",
        timeout: float,
        file: BinaryIO | None = None,
    ) -> HttpResponse:
        import aiohttp

        session = self._session or self._open()
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, CONNECT_SECONDS))
        is_form = isinstance(body, aiohttp.FormData)
        try:
            async with session.request(
                method,
                url,
                data=body,
                headers=None if is_form else {"Content-Type": "application/json"},
                timeout=limits,
                allow_redirects=False,
                proxy=self._connection.proxy,
            ) as response:
                if "Location" in response.headers and 300 <= response.status < 400:
                    target = self._redact(response.headers["Location"].encode()).decode()
                    raise CriticError(
                        f"{url} redirects to {target}, and documents go only to the given address. "
                        "If it is right, give it as --endpoint"
                    )
                if file is not None and response.status == 200:
                    await self._write(response, file)
                    return HttpResponse(200, b"")
                body = self._redact(await _read(response))
                return HttpResponse(response.status, body, _retry_after(response))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise EndpointUnreachable(_reason(error)) from None
        except TimeoutError:
            raise RequestTimeout(f"no response within {timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionBroken(_reason(error)) from None

    async def _write(self, response: "aiohttp.ClientResponse", file: BinaryIO) -> None:
        """Write a body line by line, without the key."""
        rest, size = b"", 0
        async for part in response.content.iter_chunked(1 << 16):
            size += len(part)
            if size > MAX_FILE_BYTES:
                response.close()
                raise ResponseTooLarge(f"the file is larger than {MAX_FILE_BYTES >> 20} MiB")
            rest += part
            end = rest.rfind(b"\n") + 1
            _append(file, self._redact(rest[:end]))
            rest = rest[end:]
        _append(file, self._redact(rest))

    def _open(self) -> "aiohttp.ClientSession":
        import aiohttp

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        # The endpoints limit the requests in flight, not the connection pool.
        connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=4, ssl=self._connection.ssl_context()
        )
        self._session = aiohttp.ClientSession(connector=connector, headers=headers)
        return self._session

    def _redact(self, body: bytes) -> bytes:
        return body.replace(self._key.encode(), REDACTED) if self._key else body

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
            # The transports close in the next iteration of the event loop.
            await asyncio.sleep(0)


def _append(file: BinaryIO, data: bytes) -> None:
    try:
        file.write(data)
    except OSError as error:
        # Not an error of the connection, which would be tried again.
        raise CriticError(f"{file.name}: {error.strerror}") from None


async def _read(response: "aiohttp.ClientResponse") -> bytes:
    """Return the body, read and unpacked part by part."""
    parts, size = list[bytes](), 0
    async for part in response.content.iter_chunked(1 << 16):
        parts.append(part)
        size += len(part)
        if size > MAX_RESPONSE_BYTES:
            response.close()
            raise ResponseTooLarge(f"the response is larger than {MAX_RESPONSE_BYTES >> 20} MiB")
    return b"".join(parts)


def _retry_after(response: "aiohttp.ClientResponse") -> float | None:
    """Return the header Retry-After in seconds, which is a number or a date."""
    text = response.headers.get("Retry-After", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return seconds if 0 <= seconds < math.inf else None


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def find_api_key(api_key: str | None, file: str | None) -> str | None:
    """Return the key that was given, that of a file, or that of the environment.

    Raises:
        CriticError: the file cannot be read, or what was given is not one key.
    """
    source = "IXT_API_KEY" if file is None else f"--api-key-file {file}"
    try:
        key = (
            api_key or os.environ.get("IXT_API_KEY", "")
            if file is None
            else Path(file).read_text(encoding="utf-8")
        ).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CriticError(f"{source}: cannot be read: {describe_failure(error)}") from None
    if file is None and not key:
        return None
    # A line end would start another header.
    if not key or not all("!" <= character <= "~" for character in key):
        raise CriticError(
            f"{source}: must contain one key of visible ASCII characters and nothing else"
        )
    return key
