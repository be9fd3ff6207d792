"""A distilled scorer: documents per second, and its agreement with its judge on real text.

    python tools/benchmarks/distill.py --output json

The judge is the critic `rules`. The documents are texts of the installed packages and of the
standard library: pages of documentation in pieces, docstrings, and pieces of modules.
"""

import ast
import os
import random
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import orjson
from measurements import Measurement, check_limit, log, measure_seconds, parse_arguments, report

from ixt_data.critics import load_critic
from ixt_data.critique_runs import CritiqueRunSpec, annotate, run_locally, run_worker
from ixt_data.ingestion import ingest
from ixt_data.store import Store
from ixt_tools.curate import DISTILLED, Distillation, distill, read_judged

PACKAGES = ("ixt", "scikit-learn", "scipy", "numpy")
GOAL = 5000
PIECE, MAX_FILE = 1500, 60_000


def texts() -> Iterator[str]:
    """Yield the texts of this Python: pages in pieces, docstrings, and modules in pieces."""
    paths = sysconfig.get_paths()
    for root in sorted({paths["stdlib"], paths["purelib"]}):
        for path in sorted(Path(root).rglob("*")):
            if path.suffix not in (".md", ".rst", ".txt", ".py"):
                continue
            try:
                text = path.read_text()[:MAX_FILE]
            except (OSError, UnicodeDecodeError):
                continue
            if path.suffix != ".py":
                yield from (text[at : at + PIECE] for at in range(0, len(text), PIECE))
                continue
            yield text[:PIECE]
            yield from _docstrings(text)


def _docstrings(source: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            docstring = ast.get_docstring(node)
            if docstring and len(docstring) > 200:
                yield docstring


def fill(store: Store, folder: Path, corpus: str, documents: list[str]) -> None:
    """Ingest documents as a corpus."""
    path = folder / f"{corpus}.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps({"text": text}) for text in documents))
    ingest(store, corpus, [path], shard_bytes=2 << 20)


def seconds_to_score(store: Store, corpus: str, found: Distillation, workers: int) -> float:
    """Return the seconds of a complete run, with the start of its processes."""
    spec = CritiqueRunSpec(
        store.root, corpus, DISTILLED, {"config": found.config}, name=f"{workers}-workers"
    )
    if workers == 1:
        return measure_seconds(lambda: run_worker(spec, lambda status: None))
    return measure_seconds(lambda: run_locally(spec, workers, lambda status: None))


def cpu_seconds() -> float:
    """Return the CPU time of this process and of the processes that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Run the benchmark."""
    options = parse_arguments(__doc__)
    known = sorted(set(texts()))
    random.Random(0).shuffle(known)
    sizes = (1000, 4000) if options.quick else (1000, 4000, 16_000)
    n_scored = 30_000 if options.quick else 100_000
    found: Distillation | None = None
    figures: list[Measurement] = []
    with tempfile.TemporaryDirectory() as name:
        store = Store.init(f"{name}/S")
        for size in sizes:
            corpus = f"sample{size}"
            fill(store, Path(name), corpus, known[:size])
            annotate(store, corpus, load_critic("rules"))
            found = distill(store, read_judged(store, "rules", [corpus]), name=f"of-{size}")
            one = found.agreement
            log(f"{size:,} judged: {one}")
            assert one.spearman is not None
            assert one.auc is not None
            figures.append(
                check_limit(f"Spearman, {size:,} judged", one.spearman, "", 0, is_maximum=False)
            )
            figures.append(check_limit(f"AUC, {size:,} judged", one.auc, "", 0.5, is_maximum=False))
        assert found is not None
        repeated = [f"{i} {known[i % len(known)]}" for i in range(n_scored)]
        log(f"{len(known):,} texts; mean {sum(map(len, repeated)) / n_scored:.0f} characters")
        fill(store, Path(name), "web", repeated)
        for workers in (1, 2):
            before = cpu_seconds()
            rate = n_scored / seconds_to_score(store, "web", found, workers)
            per_cpu = n_scored / (cpu_seconds() - before)
            title, unit = f"{workers} processes", "documents/s"
            goal = GOAL * workers / 2
            figures.append(check_limit(title, rate, unit, goal, is_maximum=False))
            # A busy machine does not change this one much.
            figures.append(
                check_limit(
                    f"{title}, per CPU second", per_cpu, "documents", GOAL / 2, is_maximum=False
                )
            )
    report(figures, PACKAGES, options.output)


if __name__ == "__main__":
    main()
