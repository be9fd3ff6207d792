"""Generates `docs/config.md` from the models of mix, train config and rubric."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from ixt_data.critics import Rubric
from ixt_data.mix import Mix
from ixt_train.config import Amount, TrainConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "config.md"
HEADER = """# Configuration

Generated from the code by `make docs`; do not edit.

Files are YAML. A key that is not here is an error, which names its full path and the nearest valid
one. On the command line `key.path=value` overrides a key; the value is read as YAML. The JSON
Schemas, for editors, are in `schemas/`.
"""
FILES: Mapping[str, tuple[type[BaseModel], str]] = {
    "Mix": (Mix, "`ixt mix plan MIX.YAML`, and the key `mix` of a train config."),
    "Train config": (TrainConfig, "`ixt train RUN.YAML`, `composer -n 8 -m ixt_train RUN.YAML`."),
    "Rubric": (Rubric, "`ixt critique --rubric NAME|RUBRIC.YAML`."),
}


def page() -> str:
    """The whole reference as Markdown."""
    parts = [HEADER]
    for title, (model, use) in FILES.items():
        parts += [f"## {title}", use, *_tables(model, {})]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _tables(
    model: type[BaseModel], seen: dict[type[BaseModel], str], path: str = ""
) -> Iterator[str]:
    """The table of a model's keys, then those of the models in it, each once under its path."""
    schema = model.model_json_schema(mode="validation")
    rows, inner = [], []
    for name, field in model.model_fields.items():
        found = schema["properties"][name]
        meaning = " ".join((field.description or "").split())
        part = _part(field.annotation)
        if part in seen:
            meaning += f" Keys as in `{seen[part]}`."
        elif part is not None:
            seen[part] = f"{path}{name}{'[]' if 'array' in str(found) else ''}"
            inner.append(part)
        shown = (f"`{path}{name}`", _kind(found), _default(field), meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in shown) + " |")
    head = [f"`{path.rstrip('.')}`: {_first_line(model)}", ""] if path else []
    yield "\n".join([*head, "| key | values | default | meaning |", "|---|---|---|---|", *rows])
    for part in inner:
        yield from _tables(part, seen, f"{seen[part]}.")


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _part(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation; an amount is written as one value, and is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return None if annotation is Amount else annotation
    inner = (_part(argument) for argument in getattr(annotation, "__args__", ()))
    return next((part for part in inner if part is not None), None)


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(map(_kind, schema[key])))
    if "$ref" in schema:
        return "mapping"
    kind = str(schema.get("type", "any"))
    if kind == "array":
        items: Mapping[str, Any] = schema.get("items") or next(
            iter(schema.get("prefixItems", [])), {}
        )
        return f"list of {_kind(items)}"
    return {"object": "mapping", "string": "text"}.get(kind, kind) + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    names = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {schema[key]:g}" for key, sign in names.items() if key in schema]
    return f" {', '.join(found)}" if found else ""


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        return f"`{value}`" if _part(type(value)) is None else "see below"
    if isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
        return "see below"
    return f"`{orjson.dumps(value, default=str).decode()}`"


if __name__ == "__main__":
    PAGE.write_text(page())
