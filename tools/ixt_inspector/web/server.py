"""The server: it binds, says where it is, and stops on a signal."""

import ipaddress
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import uvicorn

from ixt_data.errors import ConfigError
from ixt_inspector.web.access import AccessPolicy, names_of
from ixt_inspector.web.app import build
from ixt_inspector.web.request import Inspector, Settings

SHORTEST_TOKEN = 16
MOST_CONNECTIONS = 200


@dataclass(frozen=True)
class ServerAddress:
    """Where the server is to be.

    Attributes:
        host, port: to bind; port 0 takes a free one.
        token: to be shown by whoever asks; needed unless the host is of the loopback.
        names: other host names under which it is asked, for instance behind a proxy.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = field(default=None, repr=False)
    names: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises a ConfigError if others could reach the server without a token."""
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"host: {self.host} can be reached from other machines, and documents must not be "
                "read by everybody. Give a secret (IXT_SERVE_TOKEN or --token), or stay at "
                "127.0.0.1 and come through ssh -L"
            )
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise ConfigError(
                f"token: {len(self.token)} characters can be guessed; use {SHORTEST_TOKEN} or "
                "more, for instance from: openssl rand -hex 16"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def run(settings: Settings, address: ServerAddress, ready: Callable[[str], None]) -> None:
    """Serves until SIGINT or SIGTERM.

    Args:
        settings: what is shown.
        address: where.
        ready: called with the page's address, once it can be opened.

    Raises:
        ConfigError: the address cannot be had, or needs a token.
        StoreError: there is no store.
    """
    address.check()
    inspector = Inspector(settings)
    try:
        # Opened now, so that the first page need not wait for it, and an error comes here.
        inspector.workers.warm(inspector.views.newest().version)
        with _bound(address) as listening:
            port = listening.getsockname()[1]
            host = f"[{address.host}]" if ":" in address.host else address.host
            names = (host, *address.names, socket.gethostname())
            access = AccessPolicy(names_of(names), address.token)
            config = uvicorn.Config(
                build(inspector, access),
                log_level="warning",
                access_log=False,
                server_header=False,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_graceful_shutdown=3,
                proxy_headers=False,
            )
            # uvicorn stops on them, and then raises them again.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: None)
            query = f"?token={address.token}" if address.token is not None else ""
            _Server(config, lambda: ready(f"http://{host}:{port}/{query}")).run([listening])
    finally:
        inspector.close()


class _Server(uvicorn.Server):
    """A server that says when it can be asked."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def _bound(address: ServerAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family)
    except OSError as error:
        raise ConfigError(
            f"{address.host}:{address.port} cannot be had ({error.strerror or error}); "
            "another port: --port 0 takes a free one"
        ) from None
