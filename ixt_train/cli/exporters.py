"""The export formats `packed` and `megatron`: tokens as a trainer without ixt reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ixt_data.config import ConfigModel, validate
from ixt_data.errors import MissingExtra, UsageError
from ixt_data.export import Exporter, ExportProgress, ExportRequest

if TYPE_CHECKING:
    from ixt_data.mix import Mix


class TokenOptions(ConfigModel):
    """Options of formats with the tokens of a mix."""

    tokenizer: Path
    """Folder with a fast tokenizer."""
    mix: Path | None = None
    """Mix that states what to draw; by default each matching document once."""
    samples: int | None = Field(None, ge=1)
    """Samples to draw; by default each document once."""
    holdout: float = Field(0.0, ge=0, le=0.99)
    """Share of documents, by doc_id, that is left out."""


class PackedOptions(TokenOptions):
    """Options of `--format packed`."""

    max_length: int = Field(2048, ge=1)
    """Tokens per row."""


class MegatronOptions(TokenOptions):
    """Options of `--format megatron`."""

    stage: Literal["pretrain", "midtrain", "sft"] = "pretrain"
    """In `sft`, the tokenizer's chat template renders conversations."""


def _packed(
    request: ExportRequest, options: PackedOptions, progress: ExportProgress
) -> Mapping[str, Any]:
    tokenizer = _prepare(request, options)
    from ixt_train.stream import materialize_mix

    report = materialize_mix(
        request.store,
        _mix(request, options),
        tokenizer,
        request.target,
        options.max_length,
        samples=options.samples,
        holdout=options.holdout,
        overwrite=request.overwrite,
        progress=lambda done, total: progress(done, total, ""),
    )
    return report.record()


def _megatron(
    request: ExportRequest, options: MegatronOptions, progress: ExportProgress
) -> Mapping[str, Any]:
    tokenizer = _prepare(request, options)
    from ixt_train.stream import export_megatron

    report = export_megatron(
        request.store,
        _mix(request, options),
        tokenizer,
        request.target,
        is_sft=options.stage == "sft",
        samples=options.samples,
        holdout=options.holdout,
        overwrite=request.overwrite,
        progress=lambda done, total: progress(done, total, ""),
    )
    return report.record()


def _prepare(request: ExportRequest, options: TokenOptions) -> Any:
    """Check the request, and load the tokenizer."""
    chosen = request.where or request.corpora or request.critic or request.at
    if options.mix is not None and chosen:
        raise UsageError(
            "the mix states what to draw: leave out --where, --selection, --corpus, --critic and "
            "--at"
        )
    if request.workers is not None:
        raise UsageError("samples are tokenized by one process; leave out --workers")
    MissingExtra.require("train", "torch", "composer", "transformers")
    from ixt_train.cli.options import quiet_libraries
    from ixt_train.conditioning import SPECIAL_TOKENS, load_tokenizer

    quiet_libraries()
    return load_tokenizer(options.tokenizer, SPECIAL_TOKENS)


def _mix(request: ExportRequest, options: TokenOptions) -> "Mix":
    """Return the mix of the file, or one that draws each matching document once."""
    from ixt_data.mix import Mix, load_mix

    if options.mix is not None:
        return load_mix(options.mix)
    critics = sorted({known.name for known in request.store.snapshot(request.at).critics.values()})
    if request.critic is None and len(critics) > 1:
        raise UsageError(f"the store has several critics; add --critic {'|'.join(critics)}")
    critic = request.critic or next(iter(critics), None)
    tree = {
        "store": request.store.root,
        "snapshot": request.at,
        "corpus": list(request.corpora) or None,
        "critic": critic,
        "condition": {} if critic else {"kind": "none"},
        "selections": [{"name": "all", "where": request.where or "true"}],
    }
    return validate(Mix, tree, "export")


PACKED = Exporter(
    "conditioned, tokenized and packed rows as MDS, as llm-foundry reads them",
    _packed,
    PackedOptions,
    unit="samples",
)

MEGATRON = Exporter(
    "conditioned, tokenized samples as an indexed dataset of Megatron-Core, with loss weights",
    _megatron,
    MegatronOptions,
    unit="samples",
)
