"""The corpus "clock arithmetic": worked sums by authors that are correct or have one defect.

A document has 2 chains of 6 steps by default, on a clock of 40 numbers, with operands 1 to 9. The
problems of the held-out task (`ixt_train.evaluation`) never occur in a document.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import orjson
import typer

from ixt_data.critics import DEFECTS, GOOD, JUNK, write_results
from ixt_train.evaluation import STEPS, Sum, draw_sum, held_out_sums, task_segments

CHAINS = 2
CORPUS_FILE = "sums.jsonl"
TASK_FILE = "held_out.jsonl"


class CorpusPaths(NamedTuple):
    """The files of a corpus."""

    corpus: Path
    task: Path


def write_chain(kind: str, problem: Sum, rng: random.Random) -> str:
    """Return a chain as an author of `kind` writes it: `17 + 5 = 22 - 8 = 14 ;`."""
    start, operations = problem
    results = write_results(kind, start, operations, rng=rng)
    steps = [
        f"{'+' if sign > 0 else '-'} {operand} = {result}"
        for (sign, operand), result in zip(operations, results, strict=True)
    ]
    return " ".join([str(start), *steps, ";"])


def draw_documents(
    documents: int, *, bad: float, seed: int, held_out: Sequence[Sum], steps: int = STEPS
) -> Iterator[dict[str, str]]:
    """Yield rows with id, text, author, source; a share `bad` has one of 7 defects, evenly."""
    rng, excluded = random.Random(f"clock arithmetic {seed}"), frozenset(held_out)
    kinds = [GOOD, *DEFECTS, JUNK]
    shares = [1 - bad, *[bad / (len(kinds) - 1)] * (len(kinds) - 1)]
    for number in range(documents):
        kind = rng.choices(kinds, shares)[0]
        problems = [_draw_allowed(rng, excluded, steps) for _ in range(CHAINS)]
        text = " ".join(write_chain(kind, problem, rng) for problem in problems)
        yield {"id": f"{seed}-{number}", "text": text, "author": kind, "source": "arithmetic"}


def _draw_allowed(rng: random.Random, excluded: frozenset[Sum], steps: int) -> Sum:
    while (problem := draw_sum(rng, steps)) in excluded:
        pass
    return problem


def write_corpus(
    folder: str | Path,
    *,
    documents: int,
    bad: float = 0.9,
    seed: int = 0,
    problems: int = 400,
    steps: int = STEPS,
) -> CorpusPaths:
    """Write the corpus and the held-out task; equal arguments give equal bytes.

    Args:
        folder: folder to write to; created if missing.
        documents: number of documents.
        bad: share of documents whose author has a defect, 0 to 1.
        seed: seed of the corpus; the task does not depend on it.
        problems: number of held-out problems.
        steps: steps of each chain.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 <= bad <= 1 or documents < 0 or problems < 0 or steps < 1:
        raise ValueError(
            f"bad={bad} must be 0 to 1, {documents=} and {problems=} not negative, {steps=} above 0"
        )
    paths = CorpusPaths(Path(folder) / CORPUS_FILE, Path(folder) / TASK_FILE)
    paths.corpus.parent.mkdir(parents=True, exist_ok=True)
    held_out = held_out_sums(problems, steps)
    with paths.corpus.open("wb") as file:
        for row in draw_documents(documents, bad=bad, seed=seed, held_out=held_out, steps=steps):
            file.write(orjson.dumps(row) + b"\n")
    with paths.task.open("wb") as file:
        for problem in held_out:
            file.write(orjson.dumps({"segments": task_segments(problem)}) + b"\n")
    return paths


def _main(
    folder: Annotated[Path, typer.Argument(help="Folder for the two files.")],
    documents: Annotated[int, typer.Option(min=0, help="Number of documents.")] = 2000,
    bad: Annotated[
        float, typer.Option(min=0, max=1, help="Share of documents whose author has a defect.")
    ] = 0.9,
    seed: Annotated[int, typer.Option(help="Seed of the corpus.")] = 0,
    problems: Annotated[int, typer.Option(min=0, help="Number of held-out problems.")] = 400,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each chain.")] = STEPS,
) -> None:
    """Write the corpus "clock arithmetic" and its held-out task as JSONL."""
    paths = write_corpus(
        folder, documents=documents, bad=bad, seed=seed, problems=problems, steps=steps
    )
    for path in paths:
        typer.echo(str(path))


if __name__ == "__main__":
    typer.run(_main)
