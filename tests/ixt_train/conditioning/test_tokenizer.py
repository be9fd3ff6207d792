from pathlib import Path

import pytest

from ixt_data.errors import ConfigError
from ixt_train.conditioning.conditioner import SPECIAL_TOKENS
from ixt_train.conditioning.tokenizer import (
    control_tokens,
    load_tokenizer,
    tokenizer_id,
    train_tokenizer,
)
from ixt_train.config.model_config import TokenizerTraining

CODE = "def f(x):\n        return  xé + 17\n\n"


def test_tokenizer_of_words_keeps_its_ids_when_saved(tmp_path: Path) -> None:
    training = TokenizerTraining(kind="words", vocab_size=100)
    tokenizer = train_tokenizer(["b a a", "c b a"], training, SPECIAL_TOKENS)
    assert tokenizer.convert_ids_to_tokens(tokenizer("a b c d")["input_ids"]) == [
        *("a", "b", "c"),
        "<|unknown|>",
    ]
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path, SPECIAL_TOKENS)
    assert tokenizer_id(again) == tokenizer_id(tokenizer)
    assert len(again) == len(tokenizer)
    assert again.eos_token_id not in control_tokens(again)
    assert set(again.convert_tokens_to_ids(list(SPECIAL_TOKENS))) <= set(control_tokens(again))


def test_vocabulary_contains_the_most_frequent_words() -> None:
    fewest = 4 + len(SPECIAL_TOKENS) + 2
    training = TokenizerTraining(kind="words", vocab_size=fewest)
    tokenizer = train_tokenizer(["a b c b c", "c b"], training, SPECIAL_TOKENS)
    assert len(tokenizer) == fewest
    assert {"b", "c"} <= set(tokenizer.get_vocab())


def test_tokenizer_of_bpe_restores_every_byte() -> None:
    training = TokenizerTraining(kind="bpe", vocab_size=400)
    tokenizer = train_tokenizer([CODE] * 5, training, SPECIAL_TOKENS)
    assert tokenizer.decode(tokenizer(CODE)["input_ids"]) == CODE
    assert len(tokenizer(CODE)["input_ids"]) < len(CODE) / 2


def test_load_tokenizer_from_a_folder_without_one_raises(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer.path"):
        load_tokenizer(tmp_path)
