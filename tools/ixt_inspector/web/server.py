"""The HTTP server of `ixt serve`."""

import ipaddress
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import uvicorn

from ixt_data.errors import ConfigError
from ixt_inspector.web.access import AccessPolicy, host_names
from ixt_inspector.web.app import build_app
from ixt_inspector.web.connections import MAX_CONNECTIONS, BoundedConnection
from ixt_inspector.web.request import Inspector, Settings

MIN_TOKEN_CHARS = 16


@dataclass(frozen=True)
class ServerAddress:
    """The address of the server.

    Attributes:
        host: address to bind.
        port: port to bind; 0 selects a free port.
        token: secret that requests must contain; required unless the host is a loopback address.
        names: additional host names, for example that of a proxy.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = field(default=None, repr=False)
    names: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise a ConfigError if other machines could reach the server without a token."""
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"host: other machines can reach {self.host} and would read the documents. Set a "
                "secret (IXT_SERVE_TOKEN or --token), or bind 127.0.0.1 and use ssh -L"
            )
        if self.token is not None and len(self.token) < MIN_TOKEN_CHARS:
            raise ConfigError(
                f"token: {len(self.token)} characters can be guessed; use {MIN_TOKEN_CHARS} or "
                "more, for example from: openssl rand -hex 16"
            )


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def run_server(settings: Settings, address: ServerAddress, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        settings: store and folders to show.
        address: address to bind.
        ready: function that receives the URL when the server accepts requests.

    Raises:
        ConfigError: the address is not available, or requires a token.
        StoreError: the store does not exist.
    """
    address.check()
    inspector = Inspector(settings)
    try:
        # Opening the snapshot here reports an error before any request.
        inspector.query_pool.warm_up(inspector.views.latest().version)
        with _listen(address) as listener:
            port = listener.getsockname()[1]
            host = f"[{address.host}]" if ":" in address.host else address.host
            names = (host, *address.names, socket.gethostname())
            access = AccessPolicy(host_names(names), address.token)
            config = uvicorn.Config(
                build_app(inspector, access),
                log_level="warning",
                access_log=False,
                server_header=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_graceful_shutdown=3,
                proxy_headers=False,
                http=BoundedConnection,
                ws="none",
            )
            # uvicorn stops on these signals, then raises them again.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: None)
            query = f"?token={address.token}" if address.token is not None else ""
            _Server(config, lambda: ready(f"http://{host}:{port}/{query}")).run([listener])
    finally:
        inspector.close()


class _Server(uvicorn.Server):
    """A server that calls a function when it accepts requests."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def _listen(address: ServerAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family)
    except OSError as error:
        raise ConfigError(
            f"{address.host}:{address.port} is not available ({error.strerror or error}); "
            "--port 0 selects a free port"
        ) from None
