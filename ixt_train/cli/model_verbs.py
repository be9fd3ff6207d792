"""The verbs for a trained model: eval, generate, export-model."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixt_data.cli import Group, OutputOption, add_verb
from ixt_data.console import Output, OutputMode
from ixt_data.errors import ConfigError
from ixt_train.cli.options import MaybeStoreOption, quiet_libraries
from ixt_train.runs import find_model

if TYPE_CHECKING:
    from ixt_data.console import ProgressBar
    from ixt_train.inference import LoadedModel

CheckpointArgument = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A run folder, a checkpoint in its checkpoints/, or an exported model.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    page = "evaluation.md"
    add_verb(app, evaluate, Group.TRAIN, name="eval", example="ixt eval runs/first", docs=page)
    add_verb(
        app,
        generate,
        Group.TRAIN,
        example='ixt generate runs/first --feedback best --prompt "17 + 5 ="',
        docs=page,
    )
    add_verb(
        app,
        export_model,
        Group.TRAIN,
        name="export-model",
        example="ixt export-model runs/first model/",
        docs=page,
    )


def evaluate(
    checkpoint: CheckpointArgument,
    store: MaybeStoreOption = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", show_default="the run's own", help="Train config with the eval section."
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            min=0,
            show_default="as in the config",
            help="Held-out documents per score bucket.",
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="NAME|FILE",
            help="Task to solve by exact match: arithmetic, or a JSONL of prompts and answers or "
            "of segments.",
        ),
    ] = None,
    lm_eval: Annotated[
        list[str] | None,
        typer.Option("--lm-eval", metavar="TASK", help="Task of lm-evaluation-harness to run."),
    ] = None,
    lm_eval_path: Annotated[
        Path | None,
        typer.Option("--lm-eval-path", metavar="DIR", help="Folder with your own task files."),
    ] = None,
    fewshot: Annotated[
        int | None,
        typer.Option("--fewshot", min=0, help="Solved examples per question (--lm-eval)."),
    ] = None,
    feedback: Annotated[
        list[str] | None,
        typer.Option(
            "--feedback",
            show_default="best",
            help="Feedback for tasks: best, worst, none, or a text of several words (one word: "
            "text:WORD); may be repeated.",
        ),
    ] = None,
    guidance: Annotated[
        list[float] | None,
        typer.Option(
            "--guidance",
            min=0,
            show_default="1.0",
            help="Gamma of classifier-free guidance for tasks; may be repeated.",
        ),
    ] = None,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--no-chat",
            show_default="as in training",
            help="Prompt as the user of a conversation (--lm-eval).",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Number of questions per task.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Questions per batch (--lm-eval).")
    ] = 16,
    output: OutputOption = OutputMode.text,
) -> None:
    """Measure loss by score bucket and feedback, the effect of feedback, and tasks."""
    if not task and not lm_eval and (feedback or guidance or limit):
        raise typer.BadParameter("--feedback, --guidance and --limit are for --task and --lm-eval")
    find_model(checkpoint)  # before the slow imports
    quiet_libraries()
    trained = _load(checkpoint)
    if not task and not lm_eval:
        from ixt_train.evaluation import evaluate

        figures = evaluate(trained, store, config, samples)
    else:
        conditions = [(f, g) for f in feedback or ["best"] for g in guidance or [1.0]]
        figures = {"step": trained.step}
        if task:
            figures["tasks"] = _solve_tasks(trained, task, conditions, limit)
        if lm_eval:
            figures["lm_eval"] = _run_harness(
                trained, conditions, lm_eval, lm_eval_path, fewshot, limit, chat, batch_size
            )
    from ixt_train.evaluation import metrics_text

    Output(output).result(figures, metrics_text(figures))


def _solve_tasks(
    trained: "LoadedModel", tasks: list[str], conditions: list[tuple[str, float]], limit: int | None
) -> list[dict[str, Any]]:
    from ixt_train.config import BUILT_IN_TASKS, TaskConfig
    from ixt_train.evaluation import solve_tasks

    def config(task: str, feedback: str, gamma: float) -> TaskConfig:
        settings: dict[str, Any] = {"feedback": feedback, "guidance": gamma, "limit": limit}
        if task in BUILT_IN_TASKS:
            return TaskConfig(name=task, **settings)
        if not Path(task).is_file():
            known = ", ".join(BUILT_IN_TASKS)
            raise ConfigError(f"--task {task}: neither a file nor a built-in task ({known})")
        return TaskConfig(name=Path(task).stem, path=task, **settings)

    return solve_tasks(trained, (config(task, f, g) for task in tasks for f, g in conditions))


def _show_progress(bar: "ProgressBar", done: int, total: int) -> None:
    bar.update(done, total=total)


def _run_harness(
    trained: "LoadedModel",
    conditions: list[tuple[str, float]],
    tasks: list[str],
    folder: Path | None,
    fewshot: int | None,
    limit: int | None,
    chat: bool | None,
    batch_size: int,
) -> list[dict[str, Any]]:
    from ixt_train.evaluation import ConditionedLM, run_tasks

    rows = []
    for feedback, gamma in conditions:
        condition = {"feedback": feedback, "guidance": gamma}
        with Output(OutputMode.text).progress("evaluating", None, "questions") as bar:
            model = ConditionedLM(
                trained,
                feedback,
                guidance=gamma,
                batch_size=batch_size,
                progress=partial(_show_progress, bar),
            )
            measured = run_tasks(model, tasks, folder, limit, fewshot, chat)
        rows += [condition | row for row in measured]
    return rows


def generate(
    checkpoint: CheckpointArgument,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", help="Start of a document, or a user's message; may be repeated."),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="JSONL of prompts or messages, optionally with their own feedback; - reads stdin.",
        ),
    ] = None,
    feedback: Annotated[
        str,
        typer.Option(
            "--feedback",
            help="Feedback to condition on: best or worst that the model was trained on, none, or "
            "a text of several words (one word: text:WORD).",
        ),
    ] = "best",
    score: Annotated[
        float | None,
        typer.Option(
            "--score",
            min=0,
            max=1,
            show_default="the best score",
            help="Score of a feedback text, 0 to 1.",
        ),
    ] = None,
    guidance: Annotated[
        float,
        typer.Option(
            "--guidance",
            min=0,
            help="Gamma of classifier-free guidance; above 1 amplifies the feedback.",
        ),
    ] = 1.0,
    against: Annotated[
        str,
        typer.Option("--against", help="Feedback that guidance steers away from; as --feedback."),
    ] = "none",
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=1, help="Maximum tokens to generate.")
    ] = 64,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Completions per prompt.")] = 1,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, help="Sampling temperature; 0 is greedy.")
    ] = 0.0,
    top_p: Annotated[
        float,
        typer.Option("--top-p", help="Sample from the tokens with this share of the probability."),
    ] = 1.0,
    top_k: Annotated[
        int,
        typer.Option("--top-k", min=0, help="Sample from this many tokens; 0 samples from all."),
    ] = 0,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="Stop before this text; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of sampling.")] = 0,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Completions per batch.")
    ] = 32,
    output: OutputOption = OutputMode.text,
) -> None:
    """Generate continuations conditioned on feedback."""
    find_model(checkpoint)  # before the slow imports
    quiet_libraries()
    from ixt_train.inference import (
        FEEDBACK_WORDS,
        GenerationRequest,
        TokenSampling,
        generate_texts,
        read_requests,
    )

    how = TokenSampling(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        stop=tuple(stop or ()),
        guidance=guidance,
        samples=samples,
        seed=seed,
        batch_size=batch_size,
    )
    default = GenerationRequest("", feedback, score, against)
    if score is not None and prompts is None and feedback in FEEDBACK_WORDS:
        raise typer.BadParameter(
            f"goes with a feedback text, not with {feedback}", param_hint="--score"
        )
    requests = [replace(default, prompt=text) for text in prompt or ()]
    if prompts is not None:
        requests += read_requests(_lines(prompts), prompts, default)
    generations = generate_texts(_load(checkpoint), requests or [default], how)
    records = [generation.record() for generation in generations]
    if len(records) == 1:
        Output(output).result(records[0])
    else:
        from ixt_train.evaluation import generations_text

        Output(output).result({"generations": records}, generations_text(records))


def _lines(source: str) -> list[str]:
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--prompts {source}: {error.strerror}") from None
    return text.splitlines()


def export_model(
    checkpoint: CheckpointArgument,
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to create.")],
    output: OutputOption = OutputMode.text,
) -> None:
    """Export a model as a folder that transformers and vLLM load."""
    find_model(checkpoint)  # before the slow imports
    quiet_libraries()
    from ixt_train.inference import export_model

    card = export_model(_load(checkpoint), folder)
    Output(output).result(card, f"exported to {folder}; its ixt.json has the feedback prefixes")


def _load(checkpoint: Path) -> "LoadedModel":
    from ixt_train.inference import load_model

    return load_model(checkpoint)
