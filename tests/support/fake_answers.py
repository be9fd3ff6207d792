"""Answers of the fake judge: choices by a schema, failures on request, digits."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

THINKING = "The page explains something. It has a source. I would say 3 or 4."
PAIR = re.compile(r"document ([AB]) starts ---\n.*?quality (\d+)", re.DOTALL)


def choice_for(
    plan: Mapping[str, Any], way: str, schema: dict[str, Any], text: str, i: int
) -> dict[str, Any]:
    """Return choice number i of a response: an answer by the schema, or a failure of that way."""
    digit = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 6
    digit = {"good": 5, "bad": 0}.get(way, digit)
    if len(pair := dict(PAIR.findall(text))) == 2:
        digit = _preference(plan, text, int(pair["B"]) - int(pair["A"]))
    overall = min(5, digit + i)
    scores = dict.fromkeys(schema["properties"]["scores"]["properties"], digit)
    answer = {"critique": f"Of {len(text)} characters.", "flags": [], "scores": scores}
    if "spans" in schema["properties"]:
        tag = schema["properties"]["spans"]["items"]["properties"]["tag"]["enum"][0]
        words = " ".join(text.split()[:3])
        quotes = [words, "not in there at all"]
        answer["spans"] = [
            {"quote": q, "verdict": "wrong", "tag": tag, "comment": "look"} for q in quotes
        ]
    content = json.dumps(answer | {"overall": overall}, separators=(",", ":"))
    name = "reasoning_content" if plan.get("older") else "reasoning"
    message: dict[str, Any] = {"role": "assistant", "content": content, name: THINKING}
    choice: dict[str, Any] = {"index": i, "message": message, "finish_reason": "stop"}
    if way == "no_answer":
        message["content"] = None
    elif way == "answer_in_reasoning":
        message |= {"content": None, name: content}
    elif way == "truncated":
        message["content"] = content[: len(content) // 2]
        choice |= {"finish_reason": "length", "tokens": 4096}
    elif way == "clamped":
        message["content"] = content[:10]
        choice |= {"finish_reason": "length", "tokens": 77}
    elif way == "runaway":
        message["content"] = content[:20] + "\n " * 400
        choice |= {"finish_reason": "length", "tokens": 4096}
    elif way == "invalid":
        message["content"] = '{"critique": "half'
    elif way == "empty":
        message["content"] = json.dumps({**json.loads(content), "critique": " "})
    elif way == "parrot":
        parroted = {**json.loads(content), "critique": "The page is good. " * 9}
        message["content"] = json.dumps(parroted)
    elif way == "bad_score":
        message["content"] = content.replace(f'"overall":{overall}', '"overall":7')
    elif way == "refused":
        choice["finish_reason"] = "content_filter"
    return choice


def _preference(plan: Mapping[str, Any], text: str, difference: int) -> int:
    """Return 0 (A is much better) to 5 by the difference of the qualities that texts state."""
    chance = int(hashlib.sha256(f"first {text}".encode()).hexdigest(), 16) % 1000 / 1000
    if chance < plan.get("prefers_first", 0):
        return 1
    size = min(2, abs(difference) // 20)
    return 3 + size if difference > 0 else 2 - size


def digits(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a response to a one-digit request."""
    shares = plan.get("digits", {"2": 0.1, "3": 0.6, "4": 0.2, "x": 0.1})
    top = [{"token": token, "logprob": math.log(p)} for token, p in shares.items()]
    logprobs = {"content": [{"token": "3", "logprob": top[0]["logprob"], "top_logprobs": top}]}
    choice = {"message": {"content": "3"}, "finish_reason": "length", "logprobs": logprobs}
    return {"choices": [choice], "usage": {}}


def schema_of(body: dict[str, Any]) -> Any:
    """Return the schema of the answer, from the request's form or from its system message."""
    form = body.get("response_format", {})
    if form.get("type") == "json_schema":
        return form["json_schema"]["schema"]
    return json.loads(body["messages"][0]["content"].partition("Its JSON Schema: ")[2])
