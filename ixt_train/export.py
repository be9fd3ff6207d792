"""Export: a folder that transformers, vLLM and the like load without this package."""

import json
from pathlib import Path
from typing import Any, Literal

from transformers import GenerationConfig

from ixt_data.errors import ConfigError
from ixt_train.generate import told_text
from ixt_train.tokenizer import control_tokens
from ixt_train.trained import CARD, FORMAT, Trained, feedback_record


def export_model(trained: Trained, folder: str | Path) -> dict[str, Any]:
    """Writes weights (safetensors), config, tokenizer, generation config and ixt.json.

    The generation config bans control tokens; ixt.json holds the strings to put in front of a
    document to ask for the best or the worst.

    Raises:
        ConfigError: the folder has something in it.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already; export into a new folder")
    tokenizer, model = trained.tokenizer, trained.model
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=control_tokens(tokenizer),
    )
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    card = model_card(trained)
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n")
    return {"folder": str(folder), **card}


def model_card(trained: Trained) -> dict[str, Any]:
    """What ixt.json holds: the condition, and what to say to the model."""
    conditioner = trained.conditioner
    choices: tuple[Literal["best", "worst", "none"], ...] = ("best", "worst", "none")
    prefix = {
        choice: trained.tokenizer.bos_token + told_text(trained, choice)
        for choice in choices
        if choice == "none" or choice in conditioner.observed
    }
    return {
        "format": FORMAT,
        "step": trained.step,
        "digest": trained.digest,
        "prefix": prefix,
        "feedback": feedback_record(conditioner.observed),
        "condition": conditioner.condition.model_dump(mode="json"),
    }
