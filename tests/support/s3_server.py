"""A real S3 server (moto, over HTTP), and a proxy in front of it for bad nights."""

import http.client
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from moto.server import ThreadedMotoServer

BUCKET = "corpora"
Fault = Callable[[str, str], str | None]
"""Method and path of a request to what happens to it: see `Proxy.forward`."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without this, each response waits 40 ms for the client's acknowledgement of its headers.
    disable_nagle_algorithm = True

    def forward(self) -> None:
        """Sends the request on, if nothing befalls it.

        Faults: `500`, `SlowDown` (503), `expired` (400, of credentials), `echo` (403, with the
        request's headers in its message), `silence` (no answer), `lost` (done, no answer), `torn`
        (done, half an answer).
        """
        proxy: Proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = proxy.judge(self.command, self.path)
        if fault in ("500", "SlowDown"):
            code = "InternalError" if fault == "500" else fault
            self.answer(500 if fault == "500" else 503, [], f"<Error><Code>{code}</Code></Error>")
            return
        if fault == "expired":
            self.answer(400, [], "<Error><Code>ExpiredToken</Code></Error>")
            return
        if fault == "echo":
            message = f"<Code>AccessDenied</Code><Message>{self.headers}</Message>"
            self.answer(403, [], f"<Error>{message}</Error>")
            return
        if fault == "silence":
            time.sleep(proxy.silence)
            self.close_connection = True
            return
        answer, data = self.ask(proxy, body)
        if fault == "lost":
            self.close_connection = True
            return
        # The length of a HEAD is that of the object, not of the empty body.
        hop = [name for name in _HOP if name != "content-length" or self.command != "HEAD"]
        headers = [(k, v) for k, v in answer.getheaders() if k.lower() not in hop]
        self.answer(answer.status, headers, data, torn=fault == "torn")

    def ask(self, proxy: "Proxy", body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        if proxy.drop_conditions:
            headers = {k: v for k, v in headers.items() if k.lower() != "if-none-match"}
        connection = http.client.HTTPConnection(*proxy.behind, timeout=30)
        # The server behind looks and then writes: one at a time, or two writers win.
        with proxy.conditional if "If-None-Match" in headers else nullcontext():
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
        connection.close()
        return answer, data

    def answer(
        self, status: int, headers: list[tuple[str, str]], data: bytes | str, torn: bool = False
    ) -> None:
        data = data.encode() if isinstance(data, str) else data
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if torn else data)
        self.close_connection = torn

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

    def log_message(self, *args: object) -> None:
        pass


_HOP = ("connection", "transfer-encoding", "content-length", "expect", "host")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that was killed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Proxy:
    """A proxy of the S3 server that counts requests and injects faults."""

    handler: type[BaseHTTPRequestHandler] = _Handler

    def __init__(self, behind: tuple[str, int]) -> None:
        self.behind = behind
        self.fault: Fault = lambda method, path: None
        self.drop_conditions = False
        self.silence = 3.0
        self.seen: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.conditional = threading.Lock()
        self._lock = threading.Lock()

    def judge(self, method: str, path: str) -> str | None:
        with self._lock:
            self.seen[method] += 1
            fault = self.fault(method, path)
            if fault:
                self.faults[fault] += 1
            return fault

    @contextmanager
    def running(self) -> Iterator[str]:
        server = _Server(("127.0.0.1", 0), self.handler)
        server.proxy = self  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()


@contextmanager
def moto() -> Iterator[tuple[str, int]]:
    """A running S3 server; its host and port."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()
    finally:
        server.stop()
