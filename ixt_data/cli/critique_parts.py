"""Options of `ixt critique` that divide documents into parts."""

from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from ixt_data.critics import ChunkOptions, Rubric

PARTS = "Chunks and turns"
CHUNK_CHARS = 8192


def choose_rubric(name: str, parts: Literal["auto", "never"]) -> "Rubric":
    """Return a rubric; with `never`, documents that do not fit are excerpted, not judged in parts.

    Raises:
        ConfigError: see `load_rubric`.
    """
    from ixt_data.critics import Rubric, load_rubric

    rubric = load_rubric(name)
    if parts == "auto" or rubric.long.policy != "parts":
        return rubric
    tree = rubric.model_dump()
    return Rubric.model_validate(tree | {"long": tree["long"] | {"policy": "excerpts"}})


def divide_documents(
    per_chunk: bool, chars: int | None, tokens: int | None, turns: str | None
) -> "ChunkOptions | None":
    """Return how documents are divided, None if they are not.

    Args:
        per_chunk: whether chunks are judged.
        chars: characters per chunk.
        tokens: or tokens per chunk.
        turns: `each` or `conversation`, None for neither.

    Raises:
        typer.BadParameter: the options do not fit together.
    """
    from ixt_data.critics import ChunkOptions

    sized = chars is not None or tokens is not None
    if sized and not per_chunk:
        raise typer.BadParameter("requires --per-chunk", param_hint="--chunk-chars/-tokens")
    if chars is not None and tokens is not None:
        raise typer.BadParameter("give one of them", param_hint="--chunk-chars/-tokens")
    if per_chunk and turns is not None:
        raise typer.BadParameter("give one of --per-chunk and --turns", param_hint="--turns")
    if per_chunk:
        return ChunkOptions("chunk", chars if sized else CHUNK_CHARS, tokens)
    if turns is None:
        return None
    return ChunkOptions("turn" if turns == "each" else "conversation")
