"""Canaries: changed scores, missing ones, and wrong files."""

import json
from pathlib import Path

import pytest
from calibrated_store import (
    Judge,
    as_json,
    by_length,
    run,
    text_of,
)

from ixt_data.analysis.canaries import read_canaries
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import ConfigError
from ixt_data.records import document_id, format_id
from ixt_data.store.store import Store


def test_changed_canary_fails_the_command(store: Store, tmp_path: Path) -> None:
    score = by_length(text_of(30))[0] / 5
    lines = [
        {"name": "steady", "text": text_of(30), "score": [score, score]},
        {"doc_id": format_id(document_id(text_of(30))), "score": [0, 1], "critic": "length"},
    ]
    path = tmp_path / "canaries.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    before = store.snapshot().version
    found = as_json(store, "--critic", "length", "--canaries", path)
    assert (found["changed_canaries"], len(found["canaries"])) == ([], 2)
    annotate(store, "web", Judge("length", lambda text: [0], version=2))
    found = as_json(store, "--critic", "length", "--canaries", path, code=1)
    assert found["changed_canaries"] == ["steady"]
    lines.append({"text": "a text without a critique", "score": [0.5, 1]})
    path.write_text("\n".join(map(json.dumps, lines)))
    done = run(store, "--critic", "length", "--canaries", path, code=1)
    assert "steady, a text without a critique" in done.stderr
    assert "missing" in done.stdout
    # Snapshots from before have the old score.
    path.write_text(json.dumps(lines[0]))
    assert (
        as_json(store, "--critic", "length", "--canaries", path, "--at", before)["changed_canaries"]
        == []
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not JSON"),
        ('{"text": "a", "score": [0.9, 0.1]}', "is not .lowest, highest."),
        ('{"score": [0, 1]}', "either text or doc_id"),
        ('{"text": "a"}', "score: Field required"),
        ('{"doc_id": "xyz", "score": [0, 1]}', "line 1: "),
    ],
)
def test_wrong_canary_names_its_line(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "canaries.jsonl"
    path.write_text(line)
    with pytest.raises(ConfigError, match=message):
        read_canaries(path)
