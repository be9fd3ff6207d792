"""Settings of the model and the tokenizer."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from ixt_data.config import ConfigModel


class InitConfig(ConfigModel):
    """Initial weights of a model from scratch, beyond its Hugging Face config."""

    embedding_std: Annotated[float, Field(gt=0)] | None = None
    """Standard deviation of the input embedding; null uses the model's default."""
    scale_residual: bool = False
    """Divide the output projections of attention and MLP by sqrt(2 x layers), as GPT-2 does."""


class ModelConfig(ConfigModel):
    """The model: from scratch by `config`, or from a folder by `path`."""

    config: dict[str, Any] | None = None
    """A Hugging Face config with its `model_type`; `ixt train` fills in vocabulary and special
    tokens."""
    path: str | None = None
    """A folder written by `save_pretrained` or `ixt export-model`."""
    init: InitConfig = InitConfig()
    """Initial weights; only for `config`."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.config is None) == (self.path is None):
            raise ValueError("give either config or path")
        if self.config is not None and "model_type" not in self.config:
            raise ValueError("config needs a model_type, for instance llama")
        return self


class TokenizerTraining(ConfigModel):
    """A tokenizer trained on the mix's documents and critiques."""

    kind: Literal["bpe", "words"] = "bpe"
    """`bpe`: byte-level BPE. `words`: each run of characters without white space is one token."""
    vocab_size: PositiveInt = 8192
    """Maximum size of the vocabulary, special tokens included."""
    samples: PositiveInt = 100_000
    """Maximum number of documents to read."""


class TokenizerConfig(ConfigModel):
    """The tokenizer: a folder by `path`, or trained by `train`."""

    path: str | None = None
    """A folder with a Hugging Face tokenizer; missing feedback tokens are added to it."""
    train: TokenizerTraining | None = None
    """Train a tokenizer and save it in the run folder."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.train is None):
            raise ValueError("give either path or train")
        return self
