"""A real server under connections that send nothing, or a part of a request."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ixt_data.store.store import Store
from ixt_inspector.web.connections import MAX_CLIENT_CONNECTIONS, REQUEST_SECONDS


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    root = tmp_path_factory.mktemp("store") / "S"
    Store.init(root)
    command = [sys.executable, "-m", "ixt_data", "serve", "--store", str(root), "--port", "0"]
    with subprocess.Popen([*command, "--output", "json"], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        yield int(json.loads(server.stdout.readline())["url"].rstrip("/").rpartition(":")[2])
        server.terminate()


def test_browser_opens_at_the_page_without_the_token(tmp_path: Path) -> None:
    Store.init(tmp_path / "S")
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    command = [sys.executable, "-m", "ixt_data", "serve", "--store", str(tmp_path / "S"), "--open"]
    environment = os.environ | {"BROWSER": f"{browser} %s", "IXT_SERVE_TOKEN": "a-secret-of-mine"}
    options = ("--port", "0", "--output", "json")
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, env=environment) as server:
        assert server.stdout is not None
        address = json.loads(server.stdout.readline())["url"]
        end = time.monotonic() + 30
        while not opened.exists() and time.monotonic() < end:
            time.sleep(0.05)
        server.terminate()
    assert "token=a-secret-of-mine" in address
    assert opened.read_text().strip() == address.partition("?")[0]


def is_closed(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "])
def test_half_open_connections_block_no_page(port: int, sent: bytes) -> None:
    opened = []
    for _ in range(300):
        connection = socket.create_connection(("127.0.0.1", port), timeout=5)
        if sent:
            connection.sendall(sent)
        opened.append(connection)
    start = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/documents", timeout=5) as answer:
        assert answer.status == 200
    assert time.monotonic() - start < 2
    # The oldest ones made room for the newest ones.
    assert is_closed(opened[0], 1)
    assert sum(not is_closed(one, 0.01) for one in opened[-MAX_CLIENT_CONNECTIONS:]) > 50
    for connection in opened:
        connection.close()


def test_unfinished_request_ends_at_its_deadline(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        request = b"POST /sql/stop HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        connection.sendall(request)
        start = time.monotonic()
        # Each byte comes in time, but the request takes too long.
        while time.monotonic() - start < REQUEST_SECONDS + 3:
            if is_closed(connection, 0.5):
                break
            connection.sendall(b"x")
        assert REQUEST_SECONDS - 1 < time.monotonic() - start < REQUEST_SECONDS + 2
