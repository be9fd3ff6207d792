"""Fixtures for the tests of the data engine."""

from pathlib import Path

import pytest

from ixt_data.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.init(tmp_path / "store")
