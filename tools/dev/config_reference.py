"""Generates `docs/config.md` from the models of mix, train config and rubric."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from ixt_data.config import kind_of, models_in
from ixt_data.critics import PriceList, Rubric
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
    "Prices": (PriceList, "`ixt critique --prices FILE.YAML`."),
}


def page() -> str:
    """The whole reference as Markdown."""
    parts = [HEADER]
    for title, (model, use) in FILES.items():
        parts += [f"## {title}", use, *_tables([model], {})]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _tables(
    models: Sequence[type[BaseModel]], seen: dict[type[BaseModel], str], path: str = ""
) -> Iterator[str]:
    """The table of a model's keys, then those of the models in it, each once under its path.

    Several models are one table; they differ by the key `kind`.
    """
    rows, inner = [], []
    for name in dict.fromkeys(name for model in models for name in model.model_fields):
        having = [model for model in models if name in model.model_fields]
        field = having[-1].model_fields[name]
        found = having[-1].model_json_schema(mode="validation")["properties"][name]
        meaning = " ".join((field.description or "").split())
        values, default = _kind(found), _default(field)
        if len(models) > 1 and name == "kind":
            values = ", ".join(f"`{kind_of(model)}`" for model in models)
            defaults = [model.model_fields["kind"] for model in models]
            default = next(_default(field) for field in defaults if not field.is_required())
            meaning = " ".join(f"`{kind_of(model)}`: {_first_line(model)}" for model in models)
        elif len(having) < len(models):
            meaning = f"Only {', '.join(f'`{kind_of(m)}`' for m in having)}. {meaning}"
        parts = _parts(field.annotation)
        if parts and parts[0] in seen:
            meaning += f" Keys as in `{seen[parts[0]]}`."
        elif parts:
            seen[parts[0]] = f"{path}{name}{'[]' if 'array' in str(found) else ''}"
            inner.append(parts)
        shown = (f"`{path}{name}`", values, default, meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in shown) + " |")
    title = _first_line(models[0]) if len(models) == 1 else "The keys of every `kind`."
    head = [f"`{path.rstrip('.')}`: {title}", ""] if path else []
    yield "\n".join([*head, "| key | values | default | meaning |", "|---|---|---|---|", *rows])
    for parts in inner:
        yield from _tables(parts, seen, f"{seen[parts[0]]}.")


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _parts(annotation: Any) -> list[type[BaseModel]]:
    """The models inside an annotation; an amount is written as one value, and is none."""
    return [model for model in models_in(annotation) if model is not Amount]


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
        return f"`{value}`" if isinstance(value, Amount) else "see below"
    if isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
        return "see below"
    return f"`{orjson.dumps(value, default=str).decode()}`"


if __name__ == "__main__":
    PAGE.write_text(page())
