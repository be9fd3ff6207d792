"""Compare a fixed seed's losses and digests before and after a change, digit by digit.

Run `python tools/dev/same_losses.py --base REVISION`, or `make same-losses BASE=REVISION`. Both
sides run the same commands on the same machine: ingest, rules critic, mix plan, a small train run,
replay. The base runs from a checkout of its revision. Exit code 1 if a number differs. Only numbers
and documents count, so a key may have another name.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = 240
STEPS = 12
SUBJECTS = ("a tree", "the river", "one engine", "my neighbour", "this theorem")
VERBS = ("grows near", "repeats", "contradicts", "measures", "carries")
OBJECTS = ("the old mill", "a short proof", "every number", "the last word")

MIX = """\
store: ./S
corpus: web
critic: rules
condition: {kind: both, dropout: 0.2}
selections:
  - {name: high, where: "score >= 0.5", weight: 0.7, max_repeats: 8}
  - {name: rest, where: "score < 0.5", weight: 0.3, max_repeats: 8}
seed: 17
"""
TRAIN = f"""\
mix: mix.yaml
run_folder: run
model:
  config: {{model_type: llama, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2,
            intermediate_size: 64}}
tokenizer:
  train: {{kind: bpe, vocab_size: 512}}
max_length: 512
global_batch_size: 8
duration: {STEPS}ba
holdout: 0.1
optimizer: {{lr: 2.0e-3}}
schedule: {{kind: wsd, warmup: 3ba}}
logging: {{every: 1}}
threads: 1
seed: 5
"""
# Transactions have random names, which enter the plan's digest as parts of shard paths.
SITECUSTOMIZE = """\
import hashlib, itertools, sys, uuid
counter = itertools.count()
def uuid4():
    text = f"{sys.argv[1:3]} {next(counter)}"
    return uuid.UUID(bytes=hashlib.blake2b(text.encode(), digest_size=16).digest(), version=4)
uuid.uuid4 = uuid4
"""


def documents() -> str:
    """Return a JSONL of documents of different quality, the same at every call."""
    lines = []
    for i in range(DOCUMENTS):
        words = [
            f"{SUBJECTS[(i + k) % 5]} {VERBS[(i * 3 + k) % 5]} {OBJECTS[(i + 2 * k) % 4]}"
            for k in range(3 + i % 7)
        ]
        text = ". ".join(word.capitalize() for word in words) + "."
        if i % 3 == 0:
            text = f"{text} {text.upper()} {'buy now!!! ' * (1 + i % 4)}".strip()
        lines.append(json.dumps({"id": f"d{i}", "text": f"{text} ({i})", "source": f"s{i % 4}"}))
    return "\n".join(lines) + "\n"


def site(checkout: Path, folder: Path) -> Path:
    """Make a folder that acts as an installation of a checkout: its packages and entry points.

    Metadata earlier on `sys.path` win, so a process with this folder first in PYTHONPATH runs the
    checkout's code and loads the checkout's plugins.
    """
    project = tomllib.loads((checkout / "pyproject.toml").read_text())
    folder.mkdir()
    for package, source in project["tool"]["setuptools"]["package-dir"].items():
        (folder / package).symlink_to(checkout / source)
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    name, version = project["project"]["name"], project["project"]["version"]
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    points = project["project"].get("entry-points", {})
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
            for group, entries in points.items()
        )
    )
    return folder


def measure(checkout: Path, work: Path) -> dict[str, Any]:
    """Run the commands with a checkout's code; return losses, digest and documents per batch."""
    work.mkdir()
    environment = os.environ | {
        "PYTHONPATH": str(site(checkout, work / "site")),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
    }
    (work / "web.jsonl").write_text(documents())
    (work / "mix.yaml").write_text(MIX)
    (work / "run.yaml").write_text(TRAIN)

    def ixt(*words: str) -> Any:
        command = [sys.executable, "-m", "ixt_data", *words, "--output", "json"]
        done = subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{checkout.name}: ixt {' '.join(words)} failed:\n{done.stderr}")
        return json.loads(done.stdout)

    ixt("init", "--store", "S")
    ixt("ingest", "--store", "S", "--corpus", "web", "web.jsonl")
    ixt("critique", "--store", "S", "--corpus", "web", "--critic", "rules")
    plan = ixt("mix", "plan", "mix.yaml", "--samples", str(8 * STEPS))
    result = ixt("train", "run.yaml")
    last = ixt("replay", "--run", "run", "--batch", str(STEPS))
    metrics = [json.loads(line) for line in (work / "run/metrics.jsonl").read_text().splitlines()]
    return {
        "plan digest": plan["digest"],
        "train digest": result["digest"],
        "final losses": result["losses"],
        "losses": [repr(row["loss"]) for row in metrics if "loss" in row],
        "evaluations": [row["eval"]["loss"] for row in metrics if "eval" in row],
        "documents": [sample["doc_id"] for sample in last["samples"]],
    }


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """Return one line per value that differs, with its path; keys of either side count."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(before.keys() | after.keys())
        return [
            line
            for key in keys
            for line in differences(before.get(key), after.get(key), f"{path}/{key}")
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            line
            for i, pair in enumerate(zip(before, after, strict=True))
            for line in differences(*pair, f"{path}/{i}")
        ]
    return [] if before == after else [f"{path}: {before!r} before, {after!r} after"]


def main() -> None:
    """Measure both sides and compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="HEAD", help="revision to compare with")
    base = parser.parse_args().base
    with tempfile.TemporaryDirectory(prefix="ixt-same-losses-") as name:
        folder = Path(name)
        checkout = folder / "checkout"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(checkout), base], check=True)
        try:
            before = measure(checkout, folder / "before")
        finally:
            subprocess.run([*git, "remove", "--force", str(checkout)], check=True)
        after = measure(ROOT, folder / "after")
    found = differences(before, after)
    for line in found:
        print(line)
    losses = after["losses"]
    print(
        f"{len(losses)} losses, {len(after['evaluations'])} evaluations, digest "
        f"{after['train digest'][:12]}: {f'{len(found)} differ' if found else 'identical'} "
        f"({base} and the working tree)"
    )
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
