"""The export format `packed`: rows of tokens as a trainer without ixt reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ixt_data.config import ConfigModel, validate
from ixt_data.errors import MissingExtra, UsageError
from ixt_data.export import Exporter, ExportProgress, ExportRequest

if TYPE_CHECKING:
    from ixt_data.mix import Mix


class PackedOptions(ConfigModel):
    """Options of `--format packed`."""

    tokenizer: Path
    """Folder with a fast tokenizer."""
    mix: Path | None = None
    """Mix that states what to draw; by default each matching document once."""
    max_length: int = Field(2048, ge=1)
    """Tokens per row."""
    samples: int | None = Field(None, ge=1)
    """Samples to draw; by default each document once."""
    holdout: float = Field(0.0, ge=0, le=0.99)
    """Share of documents, by doc_id, that is left out."""


def _packed(
    request: ExportRequest, options: PackedOptions, progress: ExportProgress
) -> Mapping[str, Any]:
    chosen = request.where or request.corpora or request.critic or request.at
    if options.mix is not None and chosen:
        raise UsageError(
            "the mix states what to draw: leave out --where, --selection, --corpus, --critic and "
            "--at"
        )
    MissingExtra.require("train", "torch", "composer", "transformers")
    from ixt_train.cli.options import quiet_libraries
    from ixt_train.conditioning import SPECIAL_TOKENS, load_tokenizer
    from ixt_train.stream import materialize_mix

    quiet_libraries()
    report = materialize_mix(
        request.store,
        _mix(request, options),
        load_tokenizer(options.tokenizer, SPECIAL_TOKENS),
        request.target,
        options.max_length,
        samples=options.samples,
        holdout=options.holdout,
        overwrite=request.overwrite,
        progress=lambda done, total: progress(done, total, ""),
    )
    return report.record()


def _mix(request: ExportRequest, options: PackedOptions) -> "Mix":
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
