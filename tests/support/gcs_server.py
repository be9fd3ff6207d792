"""The part of Google Cloud Storage's XML API that stores use, over a real S3 server.

The XML API is that of S3 with other names: `x-goog-if-generation-match: 0` is a conditional create,
and each object has a generation. Requests without a token are answered, as those of an emulator.
"""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, unquote

from s3_server import BUCKET, Proxy, _Handler, moto

# The server behind requires one and does not check it.
_S3_AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, "
    "Signature=x"
)


class _GcsHandler(_Handler):
    def ask(self, proxy: Proxy, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        path, mark, query = self.path.partition("?")
        self.path = f"{quote(unquote(path))}{mark}{query}"
        del self.headers["Authorization"]
        self.headers["Authorization"] = _S3_AUTHORIZATION
        if self.headers.get("x-goog-if-generation-match") == "0":
            self.headers["If-None-Match"] = "*"
        return super().ask(proxy, body)

    def send_response_only(self, code: int, message: str | None = None) -> None:
        super().send_response_only(code, message)
        self.send_header("x-goog-generation", "1")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _Handler.forward


class GcsProxy(Proxy):
    """A server of Google Cloud Storage that counts requests and injects faults."""

    handler = _GcsHandler


@contextmanager
def gcs() -> Iterator[tuple[GcsProxy, str]]:
    """A running server with a bucket; it, and the service account that leads to it, as JSON."""
    with moto() as behind:
        proxy = GcsProxy(behind)
        connection = http.client.HTTPConnection(*behind)
        connection.request("PUT", f"/{BUCKET}")
        assert connection.getresponse().status == 200
        with proxy.running() as url:
            account = {"gcs_base_url": url, "disable_oauth": True, "client_email": ""}
            yield proxy, json.dumps(account | {"private_key": "", "private_key_id": ""})
