"""A small store with everything that the inspector shows, some of it hostile."""

import json
import math
from pathlib import Path
from typing import Any

from ixt_data.critics.base import EmbeddedCritic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.ingestion import ingest
from ixt_data.records import Critique, Document, Span
from ixt_data.store.store import Store

SCRIPT = "<script>document.title = 'owned'; alert(1)</script>"
HOSTILE = (
    f'{SCRIPT} <img src=x onerror="alert(2)"> "><svg onload=alert(3)> {{{{ 7 * 7 }}}} '
    "'; DROP TABLE documents; -- \u202egnp.exe\u202c \x1b[31mred\x07 zero\u200bwidth"
)
WEB, CODE = 130, 20


class Judge(EmbeddedCritic):
    """Scores by a number in the text; says hostile things of hostile documents."""

    def __init__(self, name: str, shift: float = 0.0) -> None:
        self.name, self.shift = name, shift

    def config(self) -> dict[str, Any]:
        return {"kind": "judge", "shift": self.shift}

    def judge(self, document: Document) -> Critique:
        text = document.text
        if "unanswered" in text:
            return Critique(document.doc_id, "timeout", error=f"no answer: {SCRIPT}", attempts=3)
        number = int(document.source_id.rpartition("-")[2])
        score = min(1.0, max(0.0, (number % 11) / 10 + self.shift * (number % 3 - 1)))
        end = min(12, len(text))
        said = "complete" if score > 0.5 else "a step is missing"
        return Critique(
            document.doc_id,
            critique=f"Text {number}: {said}. {SCRIPT}",
            score=score,
            scores={"writing": 5 * score},
            spans=(
                Span(0, end, "wrong", "unclear", f"What is meant? {SCRIPT}"),
                Span(end, min(end + 10, len(text)), "right", "", "Well put."),
            ),
            flags=("short",) if len(text) < 80 else (),
            thinking=f"I read {len(text)} characters. {SCRIPT}" if not self.shift else None,
            n_thinking_tokens=number if not self.shift else None,
            expected=score,
            entropy=0.1 * (number % 7),
        )


def make_store(folder: Path) -> Store:
    """Two corpora, and two critics; `hostile-7` is the hostile document."""
    store = Store.init(folder / "store")
    records = [
        {
            "id": f"page-{number}",
            "source": f"site-{number % 4}.example",
            "text": f"Document {number}. " + "It has some words. " * (number % 17),
            "lang": "en" if number % 2 else "de",
        }
        for number in range(WEB - 2)
    ]
    records.append({"id": "hostile-7", "source": SCRIPT, "text": HOSTILE, "lang": "xx"})
    unanswered = {"id": "page-999", "source": "site-0.example", "text": "unanswered"}
    records.append({**unanswered, "lang": "en"})
    _ingest(store, folder, "web", records)
    code = [
        {"id": f"file-{n}", "source": "repo", "text": f"def f{n}():\n\treturn {n}\n" * 3}
        for n in range(CODE)
    ]
    _ingest(store, folder, "code", code)
    for corpus in ("web", "code"):
        annotate(store, corpus, Judge("quality"))
    store.tag("first-judge")
    annotate(store, "web", Judge("style", 0.2))
    return store


def make_mixes(folder: Path) -> Path:
    """A mix, and a file that is none."""
    folder.mkdir()
    (folder / "best.yaml").write_text(
        "critic: quality\nselections:\n"
        '  - {name: high, where: "score >= 0.8", weight: 0.6, max_repeats: 16}\n'
        '  - {name: rest, where: "score < 0.8", weight: 0.4}\n'
    )
    (folder / "broken.yaml").write_text("selections: [{nam: x}]\n")
    return folder


def make_runs(folder: Path) -> Path:
    """Two train runs, one of which is being written."""
    for number, name in enumerate(("plain", "critique")):
        run = folder / name
        run.mkdir(parents=True)
        rows = []
        for step in range(1, 201):
            clocks = {"step": step, "tokens": 4096 * step, "seconds": step / 9}
            loss = 2 + 6 * math.exp(-step / (60 - 20 * number))
            rows.append({**clocks, "loss": loss + 0.1 * math.sin(step), "lr": 2e-3})
            rows[-1] |= {"row_fill": 0.97, "tokens_per_second": 36864.0}
            shares = {"selection": {"high": 0.7, "rest": 0.3}, "score": {"0.8-1": 1.0}}
            rows[-1]["mix"] = {"tokens": shares, "loss": {"selection": {"high": loss, "rest": 3}}}
            if step % 50 == 0:
                held = {"none": {"all": loss + 0.2, "0.8-1.0": loss}, "best": {"all": loss}}
                rows.append({**clocks, "eval": {"loss": held, "tasks": {"sums": step / 400}}})
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (run / "metrics.jsonl").write_text(text + '{"step": 20')
        (run / "config.yaml").write_text("mix: mix.yaml\nduration: 200ba\nstage: pretrain\n")
        plan = {"digest": "0123456789ab", "snapshot": 3, "samples": 300 * 32}
        (run / "plan.json").write_text(json.dumps(plan))
    return folder


def _ingest(store: Store, folder: Path, corpus: str, records: list[dict[str, str]]) -> None:
    path = folder / f"{corpus}.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    ingest(store, corpus, [path])
