"""Who may ask: Host and Origin, the token, and the headers of every answer.

A page of another site can make a browser send requests here. So the name that it asks for must be
one of ours (DNS rebinding), what changes anything must come from our own pages (CSRF), other sites
may not embed anything, and an address that others can reach asks for a token.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    [
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "connect")),
        "img-src 'self' data:",
        *(f"{kind} 'none'" for kind in ("frame-ancestors", "base-uri", "object-src")),
        "form-action 'self'",
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: with that, forms of our own would be sent with the origin `null`.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
MOST_BODY = 1 << 16
COOKIE = "ixt_token"


@dataclass(frozen=True)
class AccessPolicy:
    """Who may ask.

    Attributes:
        names: host names, beside those of the loopback, under which the server is asked.
        token: what must be shown, None where nobody else can reach the address.
    """

    names: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)

    @property
    def cookie(self) -> str:
        """What the browser keeps: made from the token, which cannot be made from it."""
        return hmac.digest((self.token or "").encode(), b"ixt serve", hashlib.sha256).hex()

    def knows(self, host: str) -> bool:
        """Whether a Host header names this server."""
        name = _name(host)
        if name in LOOPBACK or name in self.names:
            return True
        # An address is no name that somebody's DNS could turn; and the token is asked for anyhow.
        return self.token is not None and _is_address(name)


class AccessGuard:
    """Refuses what must not be asked, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, access: AccessPolicy) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "private, no-cache")
            await send(message)

        answer = self._refusal(Request(scope))
        await (answer or self.app)(scope, receive, headed)

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.access.knows(hosts[0]):
            return _plain(421, f"This server is not {_shown(hosts)}. See --host-name.")
        if request.method not in ("GET", "HEAD", "POST"):
            return _plain(405, "Only GET, HEAD and POST are answered.")
        if not _is_ours(request.method, headers, hosts[0]):
            return _plain(403, "A page of another site asked for this. Open it here yourself.")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MOST_BODY or "transfer-encoding" in headers:
            return _plain(413, "This is more than any form here sends.")
        return self._without_token(request) if self.access.token is not None else None

    def _without_token(self, request: Request) -> Response | None:
        """None if the request shows the token; one that has it in the address gets the cookie."""
        given = request.query_params.get("token")
        if given is not None and _same(given, self.access.token or ""):
            return self._welcome(request)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        kept = request.cookies.get(COOKIE, "")
        if _same(bearer, self.access.token or "") or _same(kept, self.access.cookie):
            return None
        return _plain(401, "Open the address that `ixt serve` printed: it ends with ?token=...")

    def _welcome(self, request: Request) -> Response:
        query = [pair for pair in parse_qsl(request.url.query, True) if pair[0] != "token"]
        # Relative, and never `//host`.
        target = "/" + request.url.path.lstrip("/") + (f"?{urlencode(query)}" if query else "")
        answer = RedirectResponse(target, 303)
        answer.set_cookie(
            COOKIE,
            self.access.cookie,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer


def is_from_elsewhere(headers: Headers) -> bool:
    """Whether a link on another site led here."""
    return headers.get("sec-fetch-site") in ("cross-site", "same-site")


def names_of(addresses: Iterable[str]) -> tuple[str, ...]:
    """Host names as `AccessPolicy` compares them."""
    return tuple(_name(address) for address in addresses)


def _is_ours(method: str, headers: Headers, host: str) -> bool:
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return False
    if method == "POST":
        return origin is not None
    if is_from_elsewhere(headers):
        return headers.get("sec-fetch-mode") == "navigate"
    return True


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(), known.encode())


def _shown(hosts: list[str]) -> str:
    return ascii(hosts[0][:80]) if hosts else "named"


def _plain(status: int, message: str) -> Response:
    return PlainTextResponse(message + "\n", status)
