"""Statistics, language and tokens of texts, on any number of processes."""

import json
from pathlib import Path

import pytest
from small_stores import add_documents
from tokenizers import Tokenizer, models, pre_tokenizers

from ixt_data.analysis import enrich, load_enricher
from ixt_data.errors import ConfigError
from ixt_data.store import Store

TEXTS = [
    "The bridge opened last year and is used by cars and by trains.",
    "Die Brücke wurde im letzten Jahr eröffnet und hat zwei Spuren.",
    "Le pont a été ouvert l'année dernière et porte deux voies.",
    "12345 --- 67890",
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.init(tmp_path / "S")


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_language_is_a_code_and_its_probability(store: Store) -> None:
    add_documents(store, TEXTS)
    report = enrich(store, "language", load_enricher("language"))
    assert report.columns == ("language", "language_confidence")
    sql = "SELECT language, language_confidence FROM documents ORDER BY source_id"
    rows = store.sql(sql).fetchall()
    assert [row[0] for row in rows] == ["en", "de", "fr", None]
    assert all(0.5 < row[1] <= 1 for row in rows[:3])
    assert rows[3][1] is None


def test_tokens_are_counted_by_a_tokenizer(store: Store, tokenizer: Path) -> None:
    add_documents(store, TEXTS)
    options = {"tokenizer": str(tokenizer), "column": "n_words_of_mine"}
    enrich(store, "tokens", load_enricher("tokens", options))
    rows = store.sql("SELECT n_words_of_mine FROM documents ORDER BY source_id").fetchall()
    assert rows == [(len(text.split()),) for text in TEXTS]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "missing a required argument: 'tokenizer'; valid are tokenizer, column"),
        ({"tokenizer": "nosuch"}, "nosuch cannot be read: No such file"),
        ({"tokenizer": "{}", "column": "1 n"}, "column '1 n'"),
        ({"tokenizer": "{}", "nosuch": "1"}, "unexpected keyword argument 'nosuch'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_enricher("tokens", options)


def test_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(ConfigError, match=r"tokenizer.json cannot be read"):
        load_enricher("tokens", {"tokenizer": str(tmp_path)})


def test_any_number_of_processes_gives_the_same_columns(store: Store, tokenizer: Path) -> None:
    add_documents(store, [f"{text} {i}" for i in range(6) for text in TEXTS], per_shard=5)
    loaded = load_enricher("tokens", {"tokenizer": str(tokenizer)})
    sql = "SELECT * EXCLUDE (shard, row) FROM documents ORDER BY doc_id"
    enrich(store, "tokens", loaded, workers=1)
    alone = store.sql(sql).fetchall()
    report = enrich(store, "tokens", loaded, workers=2, replace=True)
    assert report.documents == 24
    assert store.sql(sql).fetchall() == alone
