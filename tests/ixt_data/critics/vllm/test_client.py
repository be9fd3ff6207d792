"""The HTTP client: nothing leaks, nothing is read without a bound, no document goes elsewhere."""

import asyncio
import dataclasses
import gzip
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from fake_vllm import Running
from judging import PLAIN, QUICK, document, judged
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from ixt_data.critics.vllm import client as client_module
from ixt_data.critics.vllm.client import (
    Client,
    ConnectionOptions,
    HttpResponse,
    ResponseTooLarge,
)
from ixt_data.critics.vllm.critic import VllmCritic
from ixt_data.errors import CriticError

KEY = "sk-secret-0123456789"


@pytest.fixture
def httpserver(httpserver: HTTPServer) -> HTTPServer:
    """A server without the routes of vLLM and llama.cpp."""
    for path in ("/tokenize", "/props"):
        httpserver.expect_request(path).respond_with_data("", status=404)
    return httpserver


def get(url: str, **options: object) -> HttpResponse:
    async def request() -> HttpResponse:
        client = Client(KEY, **options)  # type: ignore[arg-type]
        try:
            return await client.get(url)
        finally:
            await client.close()

    return asyncio.run(request())


def test_key_that_a_server_repeats_is_redacted(httpserver: HTTPServer) -> None:
    def echo(request: Request) -> Response:
        return Response(f'{{"error": "{request.headers["Authorization"]}"}}', status=400)

    httpserver.expect_request("/v1/models").respond_with_handler(echo)
    reply = get(httpserver.url_for("/v1/models"))
    assert reply.json() == {"error": "Bearer [IXT_API_KEY]"}


def test_key_never_reaches_a_critique(httpserver: HTTPServer) -> None:
    def echo(request: Request) -> Response:
        if request.path == "/v1/models":
            return Response('{"data": [{"id": "judge"}]}')
        if "Water boils" in request.get_data(as_text=True):
            return Response('{"choices": [{"message": {"content": null}}]}')
        said = f'{{"error": {{"message": "bad key {request.headers["Authorization"]}"}}}}'
        return Response(said, status=400)

    httpserver.expect_request("/v1/models").respond_with_handler(echo)
    httpserver.expect_request("/v1/chat/completions").respond_with_handler(echo)
    with VllmCritic(
        httpserver.url_for("/v1"), "judge", api_key=KEY, sampling=PLAIN, timeouts=QUICK
    ) as critic:
        (critique,) = critic.run([document("A page.")])
    assert critique.error is not None
    assert "bad key Bearer [IXT_API_KEY]" in critique.error
    assert KEY not in str(critique)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip bomb"])
def test_response_is_read_up_to_a_bound(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(client_module, "MAX_RESPONSE_BYTES", 1 << 20)
    headers = {"Content-Encoding": "gzip"} if pack is gzip.compress else {}
    httpserver.expect_request("/big").respond_with_data(pack(b" " * (8 << 20)), headers=headers)
    with pytest.raises(ResponseTooLarge, match="is larger than 1 MiB"):
        get(httpserver.url_for("/big"))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_is_refused_with_both_addresses(httpserver: HTTPServer, status: int) -> None:
    other = f"http://localhost:1/v1?key={KEY}"
    httpserver.expect_request("/v1/models").respond_with_data(
        "", status=status, headers={"Location": other}
    )
    with pytest.raises(CriticError, match=r"redirects to http://localhost:1/v1\?key=\[IXT_API_KEY"):
        get(httpserver.url_for("/v1/models"))


def test_proxy_is_that_of_the_options_and_not_of_the_environment(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request("/v1/models").respond_with_data("through the proxy")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert get(httpserver.url_for("/v1/models")).body == b"through the proxy"
    proxy = ConnectionOptions(proxy=httpserver.url_for("/"))
    assert get("http://judge.invalid/v1/models", connection=proxy).body == b"through the proxy"


def test_files_of_connection_and_key_are_checked(tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.touch()
    with pytest.raises(CriticError, match=r"ca\.pem cannot be read as certificates"):
        get("http://127.0.0.1:1/", connection=ConnectionOptions(ca_file=str(empty)))
    with pytest.raises(CriticError, match=r"ca\.pem: must contain one key"):
        VllmCritic("http://127.0.0.1:1/v1", api_key_file=str(empty))
    with pytest.raises(CriticError, match="none: cannot be read"):
        VllmCritic("http://127.0.0.1:1/v1", api_key_file=str(tmp_path / "none"))


def test_first_page_of_a_gateway_is_retried(httpserver: HTTPServer) -> None:
    with Running() as fake:

        def forward(request: Request) -> Response:
            reply = asyncio.run(_forward(fake.url, request))
            return Response(reply.body, status=reply.status)

        answers = iter([Response("<html>no</html>", status=502)])
        httpserver.expect_request("/v1/models").respond_with_handler(
            lambda request: next(answers, None) or forward(request)
        )
        httpserver.expect_request("/v1/chat/completions").respond_with_handler(forward)
        sampling = dataclasses.replace(PLAIN, expected=False)
        found = judged(fake, "A page.", urls=httpserver.url_for("/v1"), sampling=sampling)
    assert [critique.status for critique in found] == ["ok"]


async def _forward(url: str, request: Request) -> HttpResponse:
    client = Client()
    try:
        path = url.removesuffix("/v1") + request.path
        if request.method == "GET":
            return await client.get(path)
        return await client.post(path, request.get_data(), 10)
    finally:
        await client.close()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def test_custom_authority_and_client_certificate_reach_a_server_that_asks_for_one(
    authority: trustme.CA, tmp_path: Path
) -> None:
    ca_file, client_cert = tmp_path / "ca.pem", tmp_path / "client.pem"
    authority.cert_pem.write_to_path(ca_file)
    authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(client_cert)
    stranger = tmp_path / "stranger.pem"
    trustme.CA().issue_cert("client").private_key_and_cert_chain_pem.write_to_path(stranger)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.configure_trust(tls)
    with Running(tls=tls) as fake:
        assert fake.url.startswith("https://")
        trusted = {"ca_file": str(ca_file), "client_cert": str(client_cert)}
        (critique,) = judged(fake, "A page.", connection=ConnectionOptions(**trusted))
        assert critique.status == "ok"
        with pytest.raises(CriticError, match=r"no server responds.*give --client-cert"):
            judged(fake, "A page.", connection=ConnectionOptions(ca_file=str(ca_file)))
        of_stranger = ConnectionOptions(ca_file=str(ca_file), client_cert=str(stranger))
        with pytest.raises(CriticError, match="no server responds") as caught:
            judged(fake, "A page.", connection=of_stranger)
        assert "--client-cert" not in str(caught.value)
        with pytest.raises(CriticError, match="CERTIFICATE_VERIFY_FAILED"):
            judged(fake, "A page.", connection=ConnectionOptions(client_cert=str(client_cert)))
