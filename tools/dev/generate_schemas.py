"""Generate `schemas/*.json` from the models.

Run `python tools/dev/generate_schemas.py`; a test compares the files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter

from ixt_data.critics import PriceList, Rubric
from ixt_data.log import Entry
from ixt_data.mds import (
    COMPRESSION,
    CRITIQUE_COLUMNS,
    CRITIQUE_TOKENS_COLUMNS,
    TEXT_COLUMNS,
    THINKING_COLUMNS,
    TOKENS_COLUMNS,
)
from ixt_data.mix import Mix
from ixt_data.records import Critique
from ixt_train.config import TrainConfig

FOLDER = Path(__file__).resolve().parents[2] / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """Every generated file by name."""
    return {
        "mix.json": _schema("A mix", Mix),
        "train.json": _schema("A train config", TrainConfig),
        "rubric.json": _schema("A rubric", Rubric),
        "prices.json": _schema("Prices of judges", PriceList),
        "critique.json": _schema("A critique record", Critique),
        "log_entry.json": _schema("An entry of the commit log", Entry),
        "mds.json": mds_columns(),
    }


def _schema(title: str, kind: Any) -> dict[str, Any]:
    # What a user writes, so keys with defaults are optional.
    schema = TypeAdapter(kind).json_schema(mode="validation")
    return {"$schema": DIALECT} | schema | {"title": title}


def mds_columns() -> dict[str, Any]:
    """MDS encodings by column, for every kind of family."""
    families: Mapping[str, Mapping[str, str]] = {
        "text": TEXT_COLUMNS,
        "critique/<critic id>": CRITIQUE_COLUMNS,
        "thinking/<critic id>": THINKING_COLUMNS,
        "tokens/<encoder id> of text": TOKENS_COLUMNS,
        "tokens/<encoder id> of critique": CRITIQUE_TOKENS_COLUMNS,
    }
    columns = {family: dict(sorted(columns.items())) for family, columns in families.items()}
    return {
        "title": "MDS columns by family",
        "compression": COMPRESSION,
        "hashes": ["xxh64"],
        "families": columns,
    }


def encode(schema: Mapping[str, Any]) -> bytes:
    """The bytes of one file."""
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def main() -> None:
    """Write all files, and drop those that are generated no more."""
    files = schemas()
    for path in FOLDER.glob("*.json"):
        if path.name not in files:
            path.unlink()
    for name, schema in files.items():
        (FOLDER / name).write_bytes(encode(schema))


if __name__ == "__main__":
    main()
