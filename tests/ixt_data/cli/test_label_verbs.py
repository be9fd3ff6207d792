"""`ixt label` and `ixt labels` as a curator runs them."""

import json
from pathlib import Path

import pytest
from command_line import as_json, ixt
from small_stores import Length, add_documents

from ixt_data.critique_runs import annotate
from ixt_data.store.selections import save_selection
from ixt_data.store.store import Store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    store = Store.init(folder / "S")
    add_documents(store, ["x" * n for n in range(1, 12)], per_shard=50)
    annotate(store, "web", Length())
    save_selection(store, "good", "score >= 0.5", critic="length")
    return folder


def test_curator_labels_and_estimates(folder: Path) -> None:
    words = ["label", "3", "--score", "0.2", "--span", "0:2:wrong:cut:ends here", "--by", "ana"]
    assert as_json(*words, folder=folder)["labels"] == 1
    assert "replaced the label of 3" in ixt(*words, folder=folder).stdout
    queued = as_json("labels", "queue", "random", "--selection", "good", folder=folder)
    assert len(queued["documents"]) == 7
    todo = folder / "todo.jsonl"
    ixt("labels", "export", todo, "--selection", "good", "--limit", "5", folder=folder)
    again = ["labels", "export", todo, "--selection", "good", "--limit", "5"]
    assert "--overwrite" in ixt(*again, folder=folder, code=1).stderr
    ixt(*again, "--overwrite", folder=folder)
    records = [json.loads(line) | {"score": 0.8} for line in todo.read_text().splitlines()]
    todo.write_text("".join(json.dumps(record) + "\n" for record in records))
    report = as_json("labels", "import", todo, "--by", "ben", folder=folder)
    assert (report["labels"], report["replaced"], report["unlabeled"]) == (5, 0, 0)
    todo.write_text(json.dumps(records[0] | {"score": None}))
    assert "1 record without a label" in ixt("labels", "import", todo, folder=folder, code=2).stderr
    records[0] |= {"critique": ["x"]}
    todo.write_text("".join(json.dumps(record) + "\n" for record in records))
    failed = ixt("labels", "import", todo, "--by", "ben", folder=folder, code=1)
    assert "todo.jsonl:1: critique: ['x'] is not a text" in " ".join(failed.stderr.split())
    done = ixt("labels", "precision", "--selection", "good", folder=folder)
    assert "that 'good' keeps without labels, 100% are good (" in done.stdout
    assert "no document" not in ixt("labels", "queue", "uncertain", folder=folder).stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["label", "3", "--score", "0.5"], 2, "IXT_REVIEWER"),
        (["label", "3", "--score", "2", "--by", "a"], 2, "2.0 is not in the range"),
        (["label", "3", "--by", "a"], 1, "needs a score"),
        (["label", "nosuch", "--score", "1", "--by", "a"], 1, "no document 'nosuch'"),
        (["label", "3", "--span", "1-2", "--by", "a"], 2, "START:END:VERDICT"),
        (["label", "3", "--span", "0:2:WRONG", "--by", "a"], 1, "'WRONG'; valid: right, wrong"),
        (["labels", "queue", "best"], 2, "disagreement, uncertain, random"),
        (["labels", "queue", "disagreement"], 1, "needs 2 of the critics"),
        (["labels", "precision"], 2, "give one of them"),
        (["labels", "precision", "--selection", "nosuch"], 1, "selections: good"),
        (["labels", "import", "nosuch.jsonl"], 2, "does not exist"),
    ],
)
def test_wrong_use_says_what_to_do(folder: Path, words: list[str], code: int, message: str) -> None:
    stderr = " ".join(ixt(*words, folder=folder, code=code).stderr.replace("│", " ").split())
    assert message in stderr
