"""Access control: Host and Origin, the token, and the headers of every response.

A page of another site can make a browser send requests to this server. So the Host header must
name this server (DNS rebinding), a request that changes anything must come from its own pages
(CSRF), and other sites may not embed its pages. A server on a public address requires a token.
"""

import hashlib
import hmac
import ipaddress
import re
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
    # Not `no-referrer`: browsers would then send the forms of these pages with the origin `null`.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(
    r"(?:\[(?P<address>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9._-]{1,255}))(?::[0-9]{1,5})?",
    re.ASCII,
)
"""A Host header: a name or an address, and a port. Users, paths and spaces are not valid."""
MAX_BODY_BYTES = 1 << 16
COOKIE = "ixt_token"


@dataclass(frozen=True)
class AccessPolicy:
    """Requirements that a request must meet.

    Attributes:
        names: host names of the server, in addition to those of the loopback interface.
        token: secret that a request must contain; None if only this machine reaches the address.
    """

    names: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)

    @property
    def cookie(self) -> str:
        """Return the value of the cookie: a digest, which does not reveal the token."""
        return hmac.digest((self.token or "").encode(), b"ixt serve", hashlib.sha256).hex()

    def accepts_host(self, host: str) -> bool:
        """Return whether a Host header names this server."""
        name = _host_name(host)
        if not name:
            return False
        if name in LOOPBACK or name in self.names:
            return True
        # DNS rebinding needs a name, so an IP address is accepted where a token is required.
        return self.token is not None and _is_address(name)


class AccessGuard:
    """Middleware that refuses forbidden requests and sets the headers of every response."""

    def __init__(self, app: ASGIApp, access: AccessPolicy) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "private, no-cache")
            await send(message)

        refusal = self._refusal(Request(scope))
        await (refusal or self.app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.access.accepts_host(hosts[0]):
            return _text_response(421, f"This server is not {_quote(hosts)}. See --host-name.")
        if request.method not in ("GET", "HEAD", "POST"):
            return _text_response(405, "The method is not allowed; valid: GET, HEAD, POST.")
        if not _is_same_origin(request.method, headers, hosts[0]):
            return _text_response(403, "Another site sent this request. Open the page directly.")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES or "transfer-encoding" in headers:
            return _text_response(413, f"The request exceeds {MAX_BODY_BYTES:,} bytes.")
        return self._require_token(request) if self.access.token is not None else None

    def _require_token(self, request: Request) -> Response | None:
        """Return None for a request with the token; set the cookie if the address contains it."""
        given = request.query_params.get("token")
        if given is not None and _is_equal(given, self.access.token or ""):
            return self._set_cookie(request)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        cookie = request.cookies.get(COOKIE, "")
        if _is_equal(bearer, self.access.token or "") or _is_equal(cookie, self.access.cookie):
            return None
        return _text_response(
            401, "Open the address that `ixt serve` printed: it ends with ?token=..."
        )

    def _set_cookie(self, request: Request) -> Response:
        query = [pair for pair in parse_qsl(request.url.query, True) if pair[0] != "token"]
        # A relative address, never `//host`.
        target = "/" + request.url.path.lstrip("/") + (f"?{urlencode(query)}" if query else "")
        response = RedirectResponse(target, 303)
        response.set_cookie(
            COOKIE,
            self.access.cookie,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return response


def is_cross_site(headers: Headers) -> bool:
    """Return whether another site sent the request, for example by a link."""
    return headers.get("sec-fetch-site") in ("cross-site", "same-site")


def host_names(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return host names in the form that `AccessPolicy` compares."""
    return tuple(_host_name(address) for address in addresses)


def _is_same_origin(method: str, headers: Headers, host: str) -> bool:
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return False
    if method == "POST":
        return origin is not None
    if is_cross_site(headers):
        return headers.get("sec-fetch-mode") == "navigate"
    return True


def _host_name(host: str) -> str:
    """Return the name in a Host header, without its port."""
    match = _HOST.fullmatch(host)
    return match["address"] or match["name"].lower().removesuffix(".") if match else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_equal(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(), known.encode())


def _quote(hosts: list[str]) -> str:
    return ascii(hosts[0][:80]) if hosts else "named in the request"


def _text_response(status: int, message: str) -> Response:
    return PlainTextResponse(message + "\n", status)
