"""Custom tasks of lm-evaluation-harness, and `ixt eval` on them without a network."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from ixt_train.evaluation.arithmetic import held_out_sums, task_segments

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
CHOOSE: dict[str, Any] = {
    "task": "choose",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_target": 0,
    "doc_to_choice": "{{choices}}",
    "metric_list": [{"metric": "acc"}],
}
WRITE: dict[str, Any] = {
    "task": "write",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{choices[0]}}",
    "generation_kwargs": {"until": ["+", "-", ";"], "do_sample": False, "max_gen_toks": 300},
    "filter_list": [
        {"name": "strip", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}
    ],
    "metric_list": [{"metric": "exact_match"}],
}
ROLL: dict[str, Any] = {
    "task": "roll",
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": [{"metric": "word_perplexity"}],
}


def write_tasks(folder: Path) -> Path:
    """Write the tasks and their data into a folder; return it."""
    with (folder / "sums.jsonl").open("w") as file:
        for problem in held_out_sums(40):
            segments = task_segments(problem)
            given, answer = segments[0]
            choices = [str((int(answer) + k) % 40) for k in range(4)]
            text = " ".join(word for segment in segments for word in segment)
            file.write(json.dumps({"question": given, "choices": choices, "text": text}) + "\n")
    files = {"data_files": {"test": str(folder / "sums.jsonl")}}
    for task in (CHOOSE, WRITE, ROLL):
        own = {"dataset_path": "json", "dataset_kwargs": files, "test_split": "test"}
        (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump(task | own))
    return folder


def evaluate_tasks(run: Path, tasks: Path, home: Path, *options: object) -> list[dict[str, Any]]:
    """Run `ixt eval` on a run folder; return the rows of its tasks."""
    arguments = ("--lm-eval-path", tasks, *options, "--output", "json")
    command = [sys.executable, "-m", "ixt_data", "eval", str(run), *map(str, arguments)]
    environment = os.environ | OFFLINE | {"HF_HOME": str(home)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["lm_eval"])
