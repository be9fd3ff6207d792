"""Traces of steps."""

import gzip
import json
from pathlib import Path

import pytest
from train_runs import Tree, losses, run

from ixt_data.errors import ConfigError


def test_trace_of_two_steps_is_in_the_run_folder(config_tree: Tree, tmp_path: Path) -> None:
    plain = losses(run(config_tree, run_folder=str(tmp_path / "plain")).run_folder)
    result = run(config_tree, profile={"steps": [3, 4], "memory": True})
    assert losses(result.run_folder) == plain
    path = Path(result.run_folder) / "profile" / "steps-3-4.rank0.json.gz"
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    names = [event.get("name", "") for event in events]
    # A fused update per step.
    assert sum(name == "aten::_fused_adamw_" for name in names) == 2


def test_steps_in_reverse_order_are_refused(config_tree: Tree) -> None:
    with pytest.raises(ConfigError, match=r"profile.*4 is after 3"):
        run(config_tree, profile={"steps": [4, 3]})
