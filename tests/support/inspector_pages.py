"""Requests to the inspector over HTTP, and what its pages contain."""

import html
import re
import time

from starlette.testclient import TestClient

HERE = "http://127.0.0.1:8765"
PAGES = [
    *(
        "/",
        "/documents",
        "/scores",
        "/critics",
        "/mixes",
        "/mixes/best",
        "/draft",
        "/critique-runs",
    ),
    *("/train-runs", "/train-runs?run=plain", "/snapshots", "/snapshots/diff?from=1", "/sql"),
    *("/duplicates", "/duplicates/difference", "/charts", "/sql/chart?sql=SELECT+1"),
]


def ids(page: str) -> list[str]:
    return re.findall(r'<td class="wide"><a href="/documents/([0-9a-f-]{36})', page)


def link(page: str, name: str) -> str | None:
    found = re.search(rf'href="([^"]+)"[^>]*>{name}</a>', page)
    return html.unescape(found[1]) if found else None


def every(client: TestClient, address: str, name: str = "Next") -> list[list[str]]:
    pages = []
    following: str | None = address
    while following:
        page = client.get(following).text
        pages.append(ids(page))
        following = link(page, name)
    return pages


def ask(client: TestClient, sql: str, **headers: str) -> str:
    """The page of a statement, once it has ended."""
    for _ in range(60):
        page = client.get("/sql", params={"sql": sql}, headers=headers).text
        if "Cancel" not in page:
            return html.unescape(page)
        time.sleep(0.1)
    raise AssertionError("it did not end")
