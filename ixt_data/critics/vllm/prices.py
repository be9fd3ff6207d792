"""Prices of judges' tokens, by model, from a YAML file."""

from pathlib import Path

from pydantic import Field, model_validator

from ixt_data.config import ConfigModel, load_config
from ixt_data.errors import ConfigError


class ModelPrice(ConfigModel):
    """Prices of a million tokens of one model, in any currency."""

    price_in: float = Field(ge=0, allow_inf_nan=False)
    """Of the prompt."""
    price_out: float = Field(ge=0, allow_inf_nan=False)
    """Of the completion, with thinking."""
    batch_in: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Of the prompt in a batch."""
    batch_out: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Of the completion in a batch."""

    @model_validator(mode="after")
    def _check(self) -> "ModelPrice":
        if (self.batch_in is None) != (self.batch_out is None):
            raise ValueError("give both batch_in and batch_out, or neither")
        return self


class PriceList(ConfigModel):
    """Prices of models."""

    prices: dict[str, ModelPrice] = Field(min_length=1)
    """Prices by the name of the model at the server."""


def load_prices(path: str | Path, model: str | None, *, is_batch: bool) -> tuple[float, float]:
    """Return the prices of a million prompt tokens and of a million completion tokens.

    Args:
        path: YAML file, see `PriceList`.
        model: name of the model.
        is_batch: whether the tokens are those of a batch.

    Raises:
        ConfigError: the file is wrong, or has no price for this model and way.
    """
    prices = load_config(PriceList, path).prices
    if model is None:
        raise ConfigError(f"{path}: prices are by model: give --model ({', '.join(prices)})")
    if model not in prices:
        known = ", ".join(prices)
        raise ConfigError(f"{path}: no price of the model {model!r}; prices of: {known}")
    price = prices[model]
    if not is_batch:
        return price.price_in, price.price_out
    if price.batch_in is None or price.batch_out is None:
        raise ConfigError(f"{path}: prices.{model}: batch_in and batch_out are missing (--batch)")
    return price.batch_in, price.batch_out
