"""Tasks for lm-evaluation-harness."""

from pathlib import Path

import pytest
from harness_tasks import write_tasks


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with task files and their data."""
    return write_tasks(tmp_path_factory.mktemp("tasks"))
