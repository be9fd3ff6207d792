"""Host and Origin, the token, and the address."""

import pytest
from inspector_pages import HERE
from starlette.testclient import TestClient

from ixt_inspector.web.access import AccessPolicy
from ixt_inspector.web.app import build_app
from ixt_inspector.web.request import Inspector
from ixt_inspector.web.server import ServerAddress


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:9000"}, 200),
        ({"Host": "[::1]:8765"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "10.0.0.7:8765"}, 421),
        ({"Host": "evil.example:x]["}, 421),
        ({"Host": "LOCALHOST.:80"}, 200),
        ({"Host": "evil.example@127.0.0.1"}, 421),
        ({"Host": "127.0.0.1/evil.example"}, 421),
        ({"Host": "127.0.0.1?evil.example"}, 421),
        ({"Host": "127.0.0.1#evil.example"}, 421),
        ({"Host": "127.0.0.1:port"}, 421),
        ({"Host": "127.0.0.1:"}, 421),
        ({"Host": "[127.0.0.1]"}, 200),
        ({"Host": "::1"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": HERE}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
    ],
)
def test_host_and_origin_are_checked(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    answer = client.get("/documents", headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-security-policy"]


def test_post_requires_the_same_origin(client: TestClient) -> None:
    assert client.post("/sql/stop").status_code == 403
    assert client.post("/sql/stop", headers={"Origin": "http://evil.example"}).status_code == 403
    answer = client.post("/sql/stop", headers={"Origin": HERE}, follow_redirects=False)
    assert answer.status_code == 303
    assert client.post("/documents", headers={"Origin": HERE}).status_code == 405
    assert client.put("/documents").status_code == 405
    big = client.post("/sql/stop", headers={"Origin": HERE}, content=b"x" * 100_000)
    assert big.status_code == 413


def test_token_is_required_once(inspector: Inspector) -> None:
    token = "correct horse battery"
    app = build_app(inspector, AccessPolicy(("box.example",), token))
    client = TestClient(app, base_url="http://box.example:8765", follow_redirects=False)
    assert client.get("/").status_code == 401
    assert client.get("/static/inspector.css").status_code == 401
    assert client.get("/", params={"token": token + "!"}).status_code == 401
    assert client.get("/", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    answer = client.get("/documents", params={"critic": "style", "token": token})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/documents?critic=style"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert token.split()[0] not in cookie
    assert client.get("/").status_code == 200
    assert client.get("//evil.example/x", params={"token": token}).headers["location"][:2] != "//"
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421


def test_public_address_requires_a_token() -> None:
    from ixt_data.errors import ConfigError

    ServerAddress("127.0.0.1").check()
    ServerAddress("::1").check()
    ServerAddress("0.0.0.0", token="0123456789abcdef").check()
    with pytest.raises(ConfigError, match="IXT_SERVE_TOKEN"):
        ServerAddress("0.0.0.0").check()
    with pytest.raises(ConfigError, match="can be guessed"):
        ServerAddress("0.0.0.0", token="short").check()
