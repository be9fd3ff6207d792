"""A store with two critics of known digits, and `ixt calibrate` on it."""

import json
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.critics.base import EmbeddedCritic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.ingestion import ingest
from ixt_data.records import Critique, Document
from ixt_data.store.store import Store


class Judge(EmbeddedCritic):
    """Gives whole digits of 0 to 5 by a function of the text, several samples if there are some."""

    def __init__(self, name: str, digits: Callable[[str], list[int]], version: int = 1) -> None:
        self.name, self.digits, self.version = name, digits, version

    def config(self) -> dict[str, Any]:
        return {"version": self.version}

    def judge(self, document: Document) -> Critique:
        drawn = self.digits(document.text)
        if not drawn:
            raise ValueError("no answer")
        scores: dict[str, float] = {"overall": statistics.fmean(drawn)}
        if len(drawn) > 1:
            scores |= {"samples": len(drawn), "spread": statistics.pstdev(drawn)}
            scores |= {f"sample_{i}": digit for i, digit in enumerate(drawn, 1)}
        return Critique(document.doc_id, critique="so", score=scores["overall"] / 5, scores=scores)


def text_of(i: int) -> str:
    return f"{i} " + "word " * (i % 40)


def by_length(text: str) -> list[int]:
    return [min(5, text.count("word") // 8)]


def noisy(text: str) -> list[int]:
    (digit,), dice = by_length(text), random.Random(text)
    return [min(5, max(0, digit + dice.choice((-1, 0, 0, 1))))]


def three(text: str) -> list[int]:
    return [*noisy(text), *by_length(text), *noisy(text + "!")]


def calibrated_store(folder: Path) -> Store:
    """400 documents of two sources; `strict` fails on one in ten."""
    lines = [
        {"text": text_of(i), "source": "even" if i % 2 == 0 else "odd", "id": i} for i in range(400)
    ]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    store = Store.init(folder / "S")
    ingest(store, "web", [folder / "a.jsonl"], shard_bytes=20_000)
    annotate(store, "web", Judge("length", by_length))
    annotate(store, "web", Judge("noisy", noisy))
    return store


def run(store: Store, *arguments: object, code: int = 0) -> Any:
    command = ["calibrate", "--store", store.root, *map(str, arguments)]
    done = CliRunner().invoke(build(), command)
    assert done.exit_code == code, (done.output, done.exception)
    return done


def as_json(store: Store, *arguments: object, code: int = 0) -> dict[str, Any]:
    done = run(store, *arguments, "--output", "json", code=code)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ranks(values: Any) -> Any:
    return np.array([(values < v).sum() + (values == v).sum() / 2 for v in values])
