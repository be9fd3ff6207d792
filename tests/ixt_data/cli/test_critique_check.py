"""`ixt critique --check`: the verdict on a judge, before a run."""

import json
from pathlib import Path

import yaml
from command_line import as_json, ixt
from critique_processes import command
from fake_vllm import Running

from ixt_data.critics.rubric import load_rubric
from ixt_data.store.store import Store


def test_check_passes_a_judge_that_can_tell_and_stores_nothing(tmp_path: Path) -> None:
    ixt("init", folder=tmp_path)
    (tmp_path / "a.jsonl").write_text('{"text": "a page"}\n')
    ixt("ingest", "--corpus", "web", "a.jsonl", folder=tmp_path)
    examples = [
        {"good": word == "good", "text": f"[[{word}]] page {i}"}
        for i in range(6)
        for word in ("good", "bad")
    ]
    tree = load_rubric("web").content | {"examples": examples}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree))
    canaries = [{"text": "[[good]] a canary", "score": [0.8, 1]}]
    (tmp_path / "canaries.jsonl").write_text("".join(json.dumps(one) for one in canaries))
    with Running() as fake:
        words = (*command(fake), "--check")
        own = (*words, "--rubric", "mine.yaml", "--canaries", "canaries.jsonl")
        result = as_json(*own, folder=tmp_path)
        assert (result["auc"], result["passed"], result["documents"]) == (1.0, True, 13)
        failed = ixt(*words, folder=tmp_path, code=1)
        assert "warning: this judge cannot tell good documents from bad ones" in failed.stderr
        assert "Tides follow the Moon" in failed.stderr
        alone = ixt(*command(fake), "--canaries", "canaries.jsonl", folder=tmp_path, code=2)
        assert "requires --check" in alone.stderr
    assert Store.open(tmp_path / "S").snapshot().critics == {}
