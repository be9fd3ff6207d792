"""HTTP to one judge's server. The only module that imports aiohttp, and only when it is used."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    import aiohttp

CONNECT_SECONDS = 10.0
PROBE_SECONDS = 5.0


class EndpointUnreachable(Exception):
    """No connection could be made: the request was not sent."""


class ConnectionBroken(Exception):
    """The connection broke while the request was under way."""


class RequestTimeout(Exception):
    """No whole answer came in time."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer over HTTP: its status and body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON, None if it is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None


def root_of(url: str) -> str:
    """The server's root, where `/health`, `/metrics` and `/tokenize` are, of its `/v1` address."""
    return url.rstrip("/").removesuffix("/v1")


class Client:
    """Requests to any number of endpoints over connections that are kept.

    Args:
        api_key: sent as a bearer token; kept out of every message.
    """

    def __init__(self, api_key: str | None = None) -> None:
        self._key = api_key
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, timeout: float) -> HttpResponse:
        """Sends JSON.

        Raises:
            Unreachable, Cut, Late: there is no whole answer.
        """
        return await self._ask("POST", url, body, timeout)

    async def get(self, url: str, timeout: float = PROBE_SECONDS) -> HttpResponse:
        """Reads a page; raises as `post` does."""
        return await self._ask("GET", url, None, timeout)

    async def _ask(self, method: str, url: str, body: bytes | None, timeout: float) -> HttpResponse:
        import aiohttp

        session = self._session or self._open()
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, CONNECT_SECONDS))
        try:
            async with session.request(method, url, data=body, timeout=limits) as response:
                return HttpResponse(response.status, await response.read())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise EndpointUnreachable(_reason(error)) from None
        except TimeoutError:
            raise RequestTimeout(f"no answer in {timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionBroken(_reason(error)) from None

    def _open(self) -> "aiohttp.ClientSession":
        import aiohttp

        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        # Endpoints limit what is under way, not the pool.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)
        self._session = aiohttp.ClientSession(connector=connector, headers=headers)
        return self._session

    async def close(self) -> None:
        """Lets all connections go."""
        if self._session is not None:
            await self._session.close()
            self._session = None
            # Transports end in the next turns of the loop.
            await asyncio.sleep(0)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
