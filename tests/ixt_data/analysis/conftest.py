"""Fixtures for the tests of analysis."""

from pathlib import Path

import pytest
from calibrated_store import calibrated_store

from ixt_data.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return calibrated_store(tmp_path)
