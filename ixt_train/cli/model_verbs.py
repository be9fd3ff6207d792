"""The verbs for a trained model: they measure it, ask it and export it."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixt_data.cli import OutputOption
from ixt_data.console import Output, OutputMode
from ixt_data.errors import ConfigError
from ixt_train.cli.options import MaybeStoreOption, quiet_libraries

if TYPE_CHECKING:
    from ixt_data.console import ProgressBar
    from ixt_train.inference import LoadedModel

CheckpointArgument = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT", help="A run folder, a file in its checkpoints/, or an exported model."
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the verbs to the app."""
    app.command("eval")(evaluate)
    app.command()(generate)
    app.command("export-model")(export_model)


def evaluate(
    checkpoint: CheckpointArgument,
    store: MaybeStoreOption = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="A train config whose eval part counts [the run's own]."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option("--samples", min=0, help="Held-out documents per score bucket [config]."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="NAME|FILE",
            help="Ask a task by exact match instead: arithmetic, or a JSONL of prompt and answer "
            "or of segments.",
        ),
    ] = None,
    lm_eval: Annotated[
        list[str] | None,
        typer.Option(
            "--lm-eval", metavar="TASK", help="Ask a task of lm-evaluation-harness instead."
        ),
    ] = None,
    lm_eval_path: Annotated[
        Path | None,
        typer.Option("--lm-eval-path", metavar="DIR", help="Where task files of your own are."),
    ] = None,
    fewshot: Annotated[
        int | None,
        typer.Option("--fewshot", min=0, help="--lm-eval: solved examples before each question."),
    ] = None,
    feedback: Annotated[
        list[str] | None,
        typer.Option(
            "--feedback", help="Of tasks: best, worst, none, or any text; each in turn [best]."
        ),
    ] = None,
    guidance: Annotated[
        list[float] | None,
        typer.Option(
            "--guidance", min=0, help="Of tasks: gamma from none to the feedback; each in turn [1]."
        ),
    ] = None,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--no-chat",
            help="--lm-eval: ask as the user of a conversation [where it was trained on some].",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Of tasks: only the first questions.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="--lm-eval: questions side by side.")
    ] = 16,
    output: OutputOption = OutputMode.text,
) -> None:
    """Measure loss by score bucket and feedback, what feedback changes in it, and tasks."""
    if not task and not lm_eval and (feedback or guidance or limit):
        raise typer.BadParameter("--feedback, --guidance and --limit are for --task and --lm-eval")
    quiet_libraries()
    trained = _load(checkpoint)
    if not task and not lm_eval:
        from ixt_train.evaluation import evaluate

        figures = evaluate(trained, store, config, samples)
    else:
        said = [(f, g) for f in feedback or ["best"] for g in guidance or [1.0]]
        figures = {"step": trained.step}
        if task:
            figures["tasks"] = _ask_tasks(trained, task, said, limit)
        if lm_eval:
            figures["lm_eval"] = _ask_harness(
                trained, said, lm_eval, lm_eval_path, fewshot, limit, chat, batch_size
            )
    from ixt_train.evaluation import metrics_text

    Output(output).result(figures, metrics_text(figures))


def _ask_tasks(
    trained: "LoadedModel", tasks: list[str], said: list[tuple[str, float]], limit: int | None
) -> list[dict[str, Any]]:
    from ixt_train.config import BUILT_IN_TASKS, TaskConfig
    from ixt_train.evaluation import solve_tasks

    def config(task: str, feedback: str, gamma: float) -> TaskConfig:
        named: dict[str, Any] = {"feedback": feedback, "guidance": gamma, "limit": limit}
        if task in BUILT_IN_TASKS:
            return TaskConfig(name=task, **named)
        if not Path(task).is_file():
            known = ", ".join(BUILT_IN_TASKS)
            raise ConfigError(f"--task {task}: neither a file nor a built-in task ({known})")
        return TaskConfig(name=Path(task).stem, path=task, **named)

    return solve_tasks(trained, (config(task, f, g) for task in tasks for f, g in said))


def _show_progress(bar: "ProgressBar", done: int, total: int) -> None:
    bar.update(done, total=total)


def _ask_harness(
    trained: "LoadedModel",
    said: list[tuple[str, float]],
    tasks: list[str],
    folder: Path | None,
    fewshot: int | None,
    limit: int | None,
    chat: bool | None,
    batch_size: int,
) -> list[dict[str, Any]]:
    from ixt_train.evaluation import ConditionedLM, run_tasks

    rows = []
    for feedback, gamma in said:
        settings = {"feedback": feedback, "guidance": gamma}
        with Output(OutputMode.text).progress("Evaluating", None, "questions") as bar:
            model = ConditionedLM(
                trained,
                feedback,
                guidance=gamma,
                batch_size=batch_size,
                progress=partial(_show_progress, bar),
            )
            found = run_tasks(model, tasks, folder, limit, fewshot, chat)
        rows += [settings | row for row in found]
    return rows


def generate(
    checkpoint: CheckpointArgument,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", help="A begun document or what a user says; may be repeated."),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="A JSONL of prompts or messages, with feedback of their own if need be; -: stdin.",
        ),
    ] = None,
    feedback: Annotated[
        str, typer.Option("--feedback", help="best, worst, none, or any text.")
    ] = "best",
    score: Annotated[
        float | None,
        typer.Option("--score", min=0, max=1, help="Score that goes with a text, 0 to 1 [best]."),
    ] = None,
    guidance: Annotated[
        float,
        typer.Option(
            "--guidance", min=0, help="Gamma of classifier-free guidance; above 1 exaggerates."
        ),
    ] = 1.0,
    against: Annotated[
        str, typer.Option("--against", help="Feedback that guidance leads away from.")
    ] = "none",
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=1, help="Tokens to write at most.")
    ] = 64,
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="How often to continue each prompt.")
    ] = 1,
    temperature: Annotated[float, typer.Option("--temperature", min=0, help="0: greedy.")] = 0.0,
    top_p: Annotated[
        float, typer.Option("--top-p", help="Sample from this share of the probability.")
    ] = 1.0,
    top_k: Annotated[
        int, typer.Option("--top-k", min=0, help="Sample from so many tokens; 0: from all.")
    ] = 0,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="End before this text; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of sampling.")] = 0,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Continuations side by side.")
    ] = 32,
    output: OutputOption = OutputMode.text,
) -> None:
    """Let a model go on writing, told what feedback to live up to."""
    quiet_libraries()
    from ixt_train.inference import GenerationRequest, TokenSampling, generate_texts, read_requests

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
    requests = [replace(default, prompt=text) for text in prompt or ()]
    if prompts is not None:
        requests += read_requests(_lines(prompts), prompts, default)
    written = generate_texts(_load(checkpoint), requests or [default], how)
    records = [generation.record() for generation in written]
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
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    output: OutputOption = OutputMode.text,
) -> None:
    """Write a folder that transformers and vLLM load."""
    quiet_libraries()
    from ixt_train.inference import export_model

    Output(output).result(export_model(_load(checkpoint), folder))


def _load(checkpoint: Path) -> "LoadedModel":
    from ixt_train.inference import load_model

    return load_model(checkpoint)
