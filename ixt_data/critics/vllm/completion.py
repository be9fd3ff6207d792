"""One completion in any of the forms that servers give: its thinking, and the JSON object in it.

Thinking comes in a field of its own, in blocks of content, or inline before the answer. The answer
is a JSON object, bare or in a fence, with prose around it, or with small errors of syntax.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from ixt_data.critics.vllm.client import without_surrogates

ThinkingForm = Literal["none", "field", "blocks", "inline"]

_TAG = re.compile(
    r"<(?P<close>/?)(?:seed:)?(?:think|thinking|thought|reasoning)>|\[(?P<end>/?)THINK\]",
    re.IGNORECASE,
)
# The channels of gpt-oss, where no parser of the server separates them.
_FINAL_CHANNEL = "<|channel|>final<|message|>"
_CHANNEL_TOKEN = re.compile(r"<\|(?:start\|>assistant|channel\|>\w+|message\|>|end\|>|return\|>)")
_MAX_STARTS = 64
"""Opening braces of a text at which an object is searched."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion, with thinking and answer apart.

    Attributes:
        content: the visible text without thinking.
        thinking: the reasoning, None without one.
        form: how the server gives the thinking.
    """

    content: str
    thinking: str | None
    form: ThinkingForm


def read_completion(message: Mapping[str, Any]) -> Completion:
    """Return the parts of a chat message.

    Args:
        message: `choices[i].message` of a response.

    Raises:
        TypeError, AttributeError: the message is not one of a chat completion.
    """
    content = message.get("content") or ""
    thinking = message.get("reasoning") or message.get("reasoning_content") or None
    if thinking is not None:
        return Completion(_join_texts(content), str(thinking), "field")
    if not isinstance(content, str):
        thoughts = [
            str(block.get("thinking") or block.get("reasoning") or "")
            for block in content
            if not isinstance(block, str) and block.get("type") in ("thinking", "reasoning")
        ]
        return Completion(
            _join_texts(content), "\n".join(thoughts) or None, "blocks" if thoughts else "none"
        )
    if content.lstrip()[:1] == "{":
        return Completion(content, None, "none")
    before, _, answer = content.rpartition(_FINAL_CHANNEL)
    end = len(content) - len(answer) if before else _thinking_end(content)
    if not end:
        return Completion(content, None, "none")
    thinking = _TAG.sub("\n", _CHANNEL_TOKEN.sub("", content[:end])).strip()
    return Completion(_CHANNEL_TOKEN.sub("", content[end:]), thinking or None, "inline")


def _thinking_end(content: str) -> int:
    """Return where the answer starts: after all blocks of thinking, which may be nested."""
    depth = end = last = 0
    for tag in _TAG.finditer(content):
        if depth == 0 and end and content[end : tag.start()].strip():
            # This tag is inside of the answer.
            break
        if tag["close"] or tag["end"]:
            # Some chat templates open the tag in the prompt, so the first one may be a closing one.
            depth, last = max(0, depth - 1), tag.end()
            end = end if depth else last
        elif depth == 0 and not end and content[: tag.start()].strip():
            break
        else:
            depth += 1
    # A block that is not closed ends with the last tag.
    return end or last


def _join_texts(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(
        block if isinstance(block, str) else str(block.get("text") or "")
        for block in content
        if isinstance(block, str) or block.get("type") in ("text", "output_text")
    )


def find_object(content: str) -> tuple[dict[str, Any] | None, bool]:
    """Return the JSON object in a text, and whether its syntax had to be repaired.

    Args:
        content: a completion without thinking.

    Returns:
            The object, None if the text contains none, or several that differ.
    """
    if (found := parse_object(content)) is not None:
        return found, False
    objects = list(_objects(content))
    if objects:
        return (objects[0] if all(one == objects[0] for one in objects) else None), False
    start, end = content.find("{"), content.rfind("}")
    if start < 0 or end < start:
        return None, False
    from json_repair import loads

    try:
        repaired = without_surrogates(loads(content[start : end + 1]))
    except RecursionError:
        return None, False
    return (repaired, True) if isinstance(repaired, dict) and repaired else (None, False)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the complete JSON objects in a text that have a critique."""
    decoder, start = json.JSONDecoder(), text.find("{")
    for _ in range(_MAX_STARTS):
        if start < 0:
            return
        try:
            found, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if "critique" in found:
                yield without_surrogates(found)
        start = text.find("{", end)


def parse_object(text: str) -> dict[str, Any] | None:
    """Return a text as a JSON object, None if it is anything else."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
