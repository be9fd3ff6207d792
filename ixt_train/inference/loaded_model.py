"""A trained model with everything that its use needs: tokenizer, condition, feedback."""

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from ixt_data.errors import ConfigError
from ixt_data.mix import load_mix, parse_condition
from ixt_train.conditioning import (
    ChatConditioner,
    Choice,
    Conditioner,
    Feedback,
    build_conditioner,
    load_tokenizer,
)
from ixt_train.config import SftConfig, load_train_config
from ixt_train.inference.adapters import load_merged
from ixt_train.inference.model import read_model_config
from ixt_train.runs import (
    EXPORT_CARD,
    checkpoint_step,
    find_model,
    newest_checkpoint,
    observed_pairs,
    read_checkpoint,
    run_folder,
)

FORMAT = 1
FEEDBACK_WORDS = ("best", "worst", "none")
FREE_TEXT = "text:"
"""Start of a feedback text, required for a text of a single word."""


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer and conditioner.

    Attributes:
        model: a Hugging Face causal language model, in evaluation mode.
        tokenizer: with the feedback tokens.
        conditioner: inserts feedback as in training.
        step: number of training steps.
        digest: digest of the training plan.
        run: the run folder, None for an exported model.
    """

    model: Any
    tokenizer: Any
    conditioner: Conditioner
    step: int
    digest: str
    run: Path | None = None


def load_model(checkpoint: str | Path) -> LoadedModel:
    """Load the model in a run folder, a checkpoint file, or an exported folder.

    A run folder gives its latest readable checkpoint, with averaged weights if the train run has
    them. The model is on the CPU, in evaluation mode.

    Args:
        checkpoint: a run folder, a checkpoint in its checkpoints/, or a folder of
            `ixt export-model`.

    Raises:
        ConfigError: the path is none of these, or the run folder has no checkpoint yet.
        CorruptError: no checkpoint can be read.
    """
    files = find_model(checkpoint)
    if files.is_export:
        return _from_export(files.folder)
    latest = files.checkpoint or newest_checkpoint(files.folder)
    assert latest is not None, "find_model refuses a run folder without a checkpoint"
    return _from_run(files.folder, latest)


def _from_run(folder: Path, checkpoint: Path) -> LoadedModel:
    tokenizer = load_tokenizer(folder / run_folder.TOKENIZER)
    config = read_model_config(folder / run_folder.MODEL)
    if config._attn_implementation not in (None, "eager", "sdpa"):
        # Kernels of training, which this machine may lack.
        config._attn_implementation = None
    model = AutoModelForCausalLM.from_config(config)
    try:
        model = load_merged(model, folder / run_folder.MODEL, read_checkpoint(checkpoint))
    except RuntimeError as error:
        raise ConfigError(
            f"{checkpoint} does not fit {folder / run_folder.MODEL}: {error}"
        ) from None
    mix = load_mix(folder / run_folder.MIX)
    config = load_train_config(folder / run_folder.CONFIG)
    feedback = run_folder.read_json(folder / run_folder.FEEDBACK)
    return LoadedModel(
        model=model.eval(),
        tokenizer=tokenizer,
        conditioner=build_conditioner(config, tokenizer, mix.condition, observed_pairs(feedback)),
        step=checkpoint_step(checkpoint),
        digest=run_folder.read_json(folder / run_folder.PLAN)["digest"],
        run=folder,
    )


def _from_export(folder: Path) -> LoadedModel:
    card = json.loads((folder / EXPORT_CARD).read_text())
    if card["format"] > FORMAT:
        raise ConfigError(f"{folder / EXPORT_CARD} has format {card['format']}; upgrade ixt")
    tokenizer = load_tokenizer(folder)
    condition = parse_condition(card["condition"], f"{folder / EXPORT_CARD} condition")
    # A pickle with weights could run code.
    model = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, use_safetensors=True
    )
    observed = observed_pairs(card["feedback"])
    chat = card.get("chat")
    conditioner = Conditioner(tokenizer, condition, observed)
    if chat is not None:
        tokenizer.chat_template = chat["template"]
        sft = SftConfig(feedback=chat["feedback"], date=chat["date"])
        conditioner = ChatConditioner(tokenizer, condition, observed, sft)
    return LoadedModel(
        model=model.eval(),
        tokenizer=tokenizer,
        conditioner=conditioner,
        step=card["step"],
        digest=card["digest"],
    )


def choose_feedback(conditioner: Conditioner, choice: str, score: float | None = None) -> Choice:
    """Return the feedback for a user's choice: best, worst, none, or a text.

    A text has white space, or starts with `text:`, which is removed. So a typo in a known word is
    not a text. For a model of spans, best omits the tag, and a text is the tag at the position of
    continuation. For a model without feedback, best is none.

    Args:
        conditioner: knows the best feedback, whose score a text gets by default.
        choice: the user's choice.
        score: the score that goes with a text, 0 to 1.

    Raises:
        ConfigError: the choice is an unknown word, or the model has no such feedback.
    """
    kind = conditioner.condition.kind
    if score is not None and not 0 <= score <= 1:
        raise ConfigError(f"score: {score} is not 0 to 1")
    if choice == "none" or (kind in ("none", "spans") and choice == "best"):
        return "none"
    if kind == "none":
        raise ConfigError(
            f"feedback {choice!r}: the model was trained without feedback (condition.kind none)"
        )
    if kind == "spans":
        tags = conditioner.tags()
        if tags and choice not in tags:
            raise ConfigError(
                f"feedback {choice!r}: the model was trained on spans; give best, none, or a tag: "
                f"{', '.join(tags)}"
            )
        return Feedback(None, choice if tags else _free_text(choice))
    if choice in ("best", "worst"):
        if choice not in conditioner.observed:
            raise ConfigError(f"feedback {choice}: training observed no feedback; give a text")
        return "best" if choice == "best" else "worst"
    if score is None and "best" in conditioner.observed:
        score = conditioner.observed["best"].score
    return Feedback(score, _free_text(choice))


def _free_text(choice: str) -> str:
    """Return the text of a choice that is not a known word."""
    if choice.startswith(FREE_TEXT):
        return choice.removeprefix(FREE_TEXT)
    if len(choice.split()) > 1:
        return choice
    near = get_close_matches(choice.lower(), FEEDBACK_WORDS, 1)
    hint = f", did you mean {near[0]!r}?" if near else "."
    raise ConfigError(
        f"feedback {choice!r}: not a known word{hint} Valid: {', '.join(FEEDBACK_WORDS)}, or a "
        f"text of several words; a text of one word is {FREE_TEXT}{choice}"
    )


def feedback_prefix(conditioner: Conditioner, choice: Choice) -> tuple[int, ...]:
    """Return the tokens in front of any document under this feedback.

    Raises:
        ConfigError: the feedback is a tag, whose position is inside a document.
    """
    spans = conditioner.condition.kind == "spans"
    if spans and isinstance(choice, Feedback) and choice.critique:
        raise ConfigError(
            f"feedback {choice.critique!r}: a tag of spans belongs inside a document, at the "
            "position where ixt generate continues; here give best or none"
        )
    return tuple(conditioner.prompt("", choice).tolist())


def pick_device() -> torch.device:
    """Return the GPU if the machine has one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
