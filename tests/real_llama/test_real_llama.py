"""The critic `llama`: a real llama.cpp that judges real documents with a small model."""

import json
from pathlib import Path

import pytest
from command_line import as_json, ixt
from critique_processes import alive

from ixt_data.critics.vllm.failures import FailureStatus
from ixt_data.critics.vllm.llama import LlamaCritic
from ixt_data.critics.vllm.server import ServerProcess
from ixt_data.errors import CriticError
from ixt_data.records import Document, document_id

pytestmark = pytest.mark.llama
TEXTS = [
    "Water boils at 100 degrees Celsius at sea level. Higher up it boils earlier.",
    "BUY BUY BUY cheap watches!!! click here click here click here",
    "def add(a, b):\n    return a - b\n",
]
PLAIN = {"max_tokens": 400, "expected": False}


def test_critic_judges_documents_and_stops_its_server(tmp_path: Path) -> None:
    lines = (json.dumps({"text": text}) for text in TEXTS)
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    ixt("init", folder=tmp_path)
    ixt("ingest", "--corpus", "web", "a.jsonl", folder=tmp_path)
    words = ("critique", "--corpus", "web", "--critic", "llama", "--no-expected")
    words += ("--max-tokens", 400, "--max-failed", 1, "-O", "threads=1", "-O", "slots=1")
    report = as_json(*words, folder=tmp_path)
    assert report["documents"] == 3
    # The small model is a poor judge: what it gives is stored by what it is.
    known = {"ok", *FailureStatus}
    assert sum(n for status, n in report["statuses"].items() if status in known) == 3
    assert report["ok"] + report["failed"] == 3
    assert report["tokens_out"] > 0
    again = ixt(*words, folder=tmp_path)
    assert "judge http://127.0.0.1:" not in again.stdout
    assert as_json(*words, folder=tmp_path)["documents"] == 0


def test_server_obeys_the_schema_and_ends_with_the_critic(monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[int]()
    launch = ServerProcess._launch

    def noted(self: ServerProcess) -> None:
        launch(self)
        started.append(self.pid)

    monkeypatch.setattr(ServerProcess, "_launch", noted)
    with LlamaCritic(sampling=PLAIN, context=4096, threads=1) as critic:
        (line, *notes) = critic.describe()
        assert "structured output: json_schema, logprobs: no, thinking: none" in line
        assert "context 4,096" in line
        (note,) = notes
        assert "tokens are judged in parts, up to 16" in note
        config = critic.config()
        (critique,) = critic.run([Document(document_id(TEXTS[0]), TEXTS[0])])
        # Longer than the context: two or three parts.
        long = " ".join(f"{TEXTS[0]} At {i} metres it is another temperature." for i in range(85))
        (parts,) = critic.run([Document(document_id(long), long)])
    assert (config["critic"], len(config["gguf"])) == ("llama", 16)
    assert critique.status in ("ok", "degenerate", "truncated")
    assert "judged_in_parts" in parts.flags
    # Where this small model fails in more than half of the parts, so has the document.
    judged = sum(span.verdict in ("chunk", "failed") for span in parts.spans)
    assert judged > 1 or " chunks failed; the first: " in (parts.error or "")
    assert critique.status != "ok" or 0 <= critique.score <= 1
    assert started
    assert not any(map(alive, started))


def test_file_that_is_not_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("not a model")
    with pytest.raises(CriticError, match=r"model\.gguf: is not a GGUF file"):
        LlamaCritic(str(tmp_path / "model.gguf"))
    with pytest.raises(CriticError, match=r"none\.gguf: No such file"):
        LlamaCritic(str(tmp_path / "none.gguf"))


def test_check_reports_how_well_the_small_model_judges(tmp_path: Path) -> None:
    ixt("init", folder=tmp_path)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": TEXTS[0]}) + "\n")
    ixt("ingest", "--corpus", "web", "a.jsonl", folder=tmp_path)
    words = ("critique", "--corpus", "web", "--critic", "llama", "--no-expected", "--check")
    words += ("--max-tokens", 400, "--min-auc", 0, "-O", "threads=1", "-O", "slots=1")
    result = as_json(*words, folder=tmp_path)
    assert result["documents"] == 12
    assert result["passed"]
    # 135 million parameters are too few: with the default bar, this judge is refused.
    assert result["auc_low"] < 0.7
