"""An inspector of a small store, and a client of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from inspector_pages import HERE
from shown_store import make_mixes, make_runs, make_store
from starlette.testclient import TestClient

from ixt_inspector.web.access import AccessPolicy
from ixt_inspector.web.app import build_app
from ixt_inspector.web.query_pool import QueryLimits
from ixt_inspector.web.request import Inspector, Settings


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shown")
    make_store(folder)
    make_mixes(folder / "mixes")
    make_runs(folder / "runs")
    return folder


@pytest.fixture(scope="module")
def inspector(shown: Path) -> Iterator[Inspector]:
    limits = QueryLimits(seconds=3, rows=5, download=7, memory=512 << 20)
    settings = Settings(str(shown / "store"), shown / "mixes", shown / "runs", limits)
    opened = Inspector(settings)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(inspector: Inspector) -> TestClient:
    return TestClient(build_app(inspector, AccessPolicy()), base_url=HERE)
