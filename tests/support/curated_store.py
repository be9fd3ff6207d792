"""A critic with complaints, texts, and `ixt` with JSON output."""

import json
import random

from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.critics.base import EmbeddedCritic
from ixt_data.records import Critique, Span

WORDS = [f"word{i}" for i in range(3000)]


def text(seed: int, n: int = 200) -> list[str]:
    return random.Random(seed).choices(WORDS, k=n)


def changed(words: list[str], places: range) -> list[str]:
    return ["changed" if i in places else word for i, word in enumerate(words)]


def run(*arguments: object, code: int = 0) -> dict:
    done = CliRunner().invoke(build(), [*map(str, arguments), "--output", "json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


class Grumbler(EmbeddedCritic):
    """Scores by place, and complains in flags, tags, or words alone."""

    def __init__(self, way: str) -> None:
        self.name = self.way = way

    def config(self) -> dict:
        return {"way": self.way}

    def judge(self, document):
        bad = int(document.doc_id[0]) % 2 == 0
        score = document.doc_id[1] / 255
        if self.way == "flags":
            flags = ("spam", "short") if bad else ("dull",)
            return Critique(document.doc_id, critique="no", score=score, flags=flags)
        if self.way == "tags":
            spans = (Span(0, 4, "wrong", "wrong sum"),) if bad else ()
            return Critique(document.doc_id, critique="no", score=score, spans=spans)
        says = "Repetitive boilerplate navigation menus." if bad else "Unsupported medical claims."
        return Critique(document.doc_id, critique=says, score=score)
