"""Completions in the forms that models and servers give them."""

import json
import time

import pytest

from ixt_data.critics.vllm.completion import find_object, read_completion

ANSWER = '{"critique": "Clear, but without a source.", "overall": 3}'


@pytest.mark.parametrize(
    ("before", "thinking"),
    [
        ("<think>a <think>b</think> c</think>", ["a", "b", "c"]),
        ("<think>a</think>\n<think>b</think>", ["a", "b"]),
        ("<think>a <think>b</think> ", ["a", "b"]),
        ("a</think>", ["a"]),
        ('<think>{"critique": "no", "overall": 1}</think>', ['{"critique": "no", "overall": 1}']),
        ("<THINK>a</THINK>", ["a"]),
        ("<seed:think>a</seed:think>", ["a"]),
        ("[THINK]a[/THINK]", ["a"]),
        (
            "<|channel|>analysis<|message|>a {b}<|end|>"
            "<|start|>assistant<|channel|>final<|message|>",
            ["a {b}"],
        ),
    ],
)
def test_thinking_is_apart_from_the_answer(before: str, thinking: list[str]) -> None:
    found = read_completion({"content": f"{before}{ANSWER}"})
    assert (found.thinking or "").split("\n") != [""]
    assert [part.strip() for part in (found.thinking or "").split("\n") if part.strip()] == thinking
    assert find_object(found.content) == (json.loads(ANSWER), False)


@pytest.mark.parametrize("before", ["", "<think>a</think>\n", "Here it is: "])
def test_tags_inside_of_the_answer_stay(before: str) -> None:
    answer = {"critique": "The page explains <think> and </think>, with examples.", "overall": 3}
    found = read_completion({"content": before + json.dumps(answer)})
    assert find_object(found.content) == (answer, False)


def test_content_in_blocks_is_joined() -> None:
    blocks = [{"type": "output_text", "text": ANSWER[:9]}, ANSWER[9:15]]
    blocks.append({"type": "text", "text": ANSWER[15:]})
    assert read_completion({"content": blocks}).content == ANSWER


@pytest.mark.parametrize(
    "content",
    [
        f"The set {{a, b}} is good. {ANSWER} So {{there}}.",
        f"[{ANSWER}]",
        f"{ANSWER}\n{ANSWER}",
        f"\ufeff{ANSWER}",
        f"```\n{ANSWER}\n```",
    ],
)
def test_object_is_found_between_other_text(content: str) -> None:
    assert find_object(content) == (json.loads(ANSWER), False)


def test_answers_that_differ_are_none() -> None:
    other = ANSWER.replace("3", "5")
    assert find_object(f"{ANSWER}\nOr rather:\n{other}") == (None, False)


def test_half_of_a_surrogate_pair_becomes_the_replacement_character() -> None:
    found, _ = find_object(ANSWER.replace("Clear", "Clear \\ud83d and \\ude00\\ud83d\\ude00"))
    assert found is not None
    assert found["critique"].startswith("Clear \ufffd and \ufffd\U0001f600, but")
    assert found["critique"].encode()


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 50_000, "{" * 100_000])
def test_deep_nesting_is_no_object(content: str) -> None:
    start = time.monotonic()
    assert find_object(content)[0] is None
    assert time.monotonic() - start < 20
