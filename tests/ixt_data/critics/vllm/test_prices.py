"""Prices by model, from a YAML file."""

from pathlib import Path

import pytest

from ixt_data.critics.vllm.prices import load_prices
from ixt_data.errors import ConfigError

TEXT = """\
prices:
  big: {price_in: 1.25, price_out: 10, batch_in: 0.5, batch_out: 5}
  small: {price_in: 0.15, price_out: 0.6}
"""


def test_prices_are_those_of_the_model_and_the_way(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(TEXT)
    assert load_prices(file, "big", is_batch=False) == (1.25, 10)
    assert load_prices(file, "big", is_batch=True) == (0.5, 5)
    for model, is_batch, message in (
        ("small", True, "prices.small: batch_in and batch_out are missing"),
        ("other", False, "no price of the model 'other'; prices of: big, small"),
        (None, False, "give --model"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_prices(file, model, is_batch=is_batch)


@pytest.mark.parametrize(
    "text",
    [
        "prices: {}",
        "prices: {a: {price_in: -1, price_out: 2}}",
        "prices: {a: {price_in: 1}}",
        "prices: {a: {price_in: 1, price_out: .inf}}",
        "prices: {a: {price_in: 1, price_out: 1, batch_in: 1}}",
        "price: {a: {price_in: 1, price_out: 1}}",
    ],
)
def test_wrong_file_names_itself(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"prices\.yaml"):
        load_prices(file, "a", is_batch=False)
