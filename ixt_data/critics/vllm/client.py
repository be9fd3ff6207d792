"""HTTP client for the servers of a judge. The only module that imports aiohttp, on first use."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    import aiohttp

CONNECT_SECONDS = 10.0
PROBE_SECONDS = 5.0


class EndpointUnreachable(Exception):
    """The connection could not be opened, so the request was not sent."""


class ConnectionBroken(Exception):
    """The connection broke while the request was in flight."""


class RequestTimeout(Exception):
    """The complete response did not arrive in time."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response.

    Attributes:
        status: HTTP status code.
        body: raw bytes of the body.
    """

    status: int
    body: bytes

    def json(self) -> Any:
        """Return the body parsed as JSON, None if it is not JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None


def server_root(url: str) -> str:
    """Return the root of a `/v1` address, where `/health`, `/metrics` and `/tokenize` are."""
    return url.rstrip("/").removesuffix("/v1")


class Client:
    """HTTP requests to any number of endpoints over pooled connections.

    Args:
        api_key: sent as a bearer token; no error or log message contains it.
    """

    def __init__(self, api_key: str | None = None) -> None:
        self._key = api_key
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
            RequestTimeout: the response is not complete after `timeout` seconds.
        """
        return await self._request("POST", url, body, timeout)

    async def get(self, url: str, timeout: float = PROBE_SECONDS) -> HttpResponse:
        """Send a GET request; raises the same errors as `post`."""
        return await self._request("GET", url, None, timeout)

    async def _request(
        self, method: str, url: str, body: bytes | None, timeout: float
    ) -> HttpResponse:
        import aiohttp

        session = self._session or self._open()
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, CONNECT_SECONDS))
        try:
            async with session.request(method, url, data=body, timeout=limits) as response:
                return HttpResponse(response.status, await response.read())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise EndpointUnreachable(_reason(error)) from None
        except TimeoutError:
            raise RequestTimeout(f"no response within {timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionBroken(_reason(error)) from None

    def _open(self) -> "aiohttp.ClientSession":
        import aiohttp

        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        # The endpoints limit the requests in flight, not the connection pool.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)
        self._session = aiohttp.ClientSession(connector=connector, headers=headers)
        return self._session

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
            # The transports close in the next iteration of the event loop.
            await asyncio.sleep(0)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
