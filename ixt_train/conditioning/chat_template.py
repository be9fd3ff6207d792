"""Chat templates: a conversation as the text that the template writes, and the assistant's turns.

A conversation is rendered twice: as it is, which decides the text, and with contents as private
characters, which shows where each content and each turn is. The second rendering is cached.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from jinja2.exceptions import TemplateError

from ixt_data.conversation import ASSISTANT, ROLES
from ixt_data.errors import ConfigError, RejectedConversation, describe_failure
from ixt_data.records import content_id
from ixt_train.conditioning.chat_messages import (
    MARKS,
    QUESTION_MARK,
    TOOL_FORMS,
    TRIAL_CALL,
    TRIAL_RESULT,
    ToolForm,
    Unit,
    call_units,
    free_characters,
    in_tool_form,
    map_strings,
    marked_message,
    markup_units,
    whole_unit,
    writes_call,
)
from ixt_train.conditioning.chat_turns import Messages, Turn, TurnFinder, roles_of
from ixt_train.conditioning.template_encoder import FEEDBACK_MARK, TemplateEncoder, added_tokens
from ixt_train.conditioning.tokenizer import add_special_tokens

ROLE_TOKENS = tuple(f"<|{role}|>" for role in ROLES)
DEFAULT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{{ message['content'] or '' }}"
    "{% if message['tool_calls'] %}{{ message['tool_calls'] | tojson }}{% endif %}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_CLOCK = "strftime_now"
_CACHE_SIZE = 4096
_QUESTION, _ANSWER = {"role": "user", "content": "q"}, {"role": ASSISTANT, "content": "a"}
_NOTHING: frozenset[str] = frozenset()


def set_chat_template(tokenizer: Any, file: str | None) -> None:
    """Set the tokenizer's chat template from a file, or a plain one if it has none.

    Raises:
        ConfigError: the file cannot be read.
    """
    if file is not None:
        try:
            tokenizer.chat_template = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = describe_failure(error)
            raise ConfigError(f"sft.template: {file} cannot be read: {reason}") from None
    elif not tokenizer.chat_template:
        add_special_tokens(tokenizer, ROLE_TOKENS)
        tokenizer.chat_template = DEFAULT_TEMPLATE
    elif not isinstance(tokenizer.chat_template, str):
        tokenizer.chat_template = tokenizer.get_chat_template()


def template_id(tokenizer: Any, today: date) -> str:
    """Return 12 hex digits over the chat template, and the date if the template writes one."""
    template = tokenizer.chat_template
    return content_id([template, today.isoformat()] if _CLOCK in template else template)


class RenderedConversation(NamedTuple):
    """A conversation as text.

    Attributes:
        text: with control tokens in the spelling of `TemplateEncoder.alias`.
        turns: the assistant's turns by message number.
        contents: per message, its pieces: offset in the content, offset in `text`, length.
    """

    text: str
    turns: Mapping[int, Turn]
    contents: Sequence[Sequence[tuple[int, int, int]]]


class ChatTemplate:
    """The chat template of a tokenizer.

    Attributes:
        encoder: encodes the texts of `render`.
        header: the text that the template writes before a reply to a question.
        reserved: control tokens that no message can write.
        ends: ids of the control tokens that end a turn.
        written: ids of the control tokens that the assistant writes, ends included.
    """

    def __init__(self, tokenizer: Any, today: date) -> None:
        """Render trial conversations.

        Args:
            tokenizer: a fast Hugging Face tokenizer.
            today: the date for templates that write the current one.

        Raises:
            ConfigError: the tokenizer has no template, or the template does not end the
                assistant's turn or does not write contents.
        """
        if not tokenizer.chat_template:
            raise ConfigError("the tokenizer has no chat template; train with stage sft to set one")
        self._tokenizer = tokenizer
        self._settings = {}
        if _CLOCK in tokenizer.chat_template:
            self._settings[_CLOCK] = today.strftime
        self._has_parts = False
        self._tool_form: ToolForm | None = None
        self._cached_turns = lru_cache(_CACHE_SIZE)(self._turns)
        added = added_tokens(tokenizer)
        special = {name for name, is_special in added.items() if is_special}
        self._set_control(special | {name for name in added if name in tokenizer.chat_template})
        trial = self._try_contents()
        self._set_control({*self.encoder.ids, *(name for name in added if name in trial)})
        self._tool_form = self._find_tool_form()
        self._learn_tokens(special)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_cached_turns"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._cached_turns = lru_cache(_CACHE_SIZE)(self._turns)

    @property
    def header(self) -> str:
        """The text that the template writes before a reply to a question."""
        return self._finder.header

    def render(
        self, messages: Messages, add_reply: bool = False, has_feedback: bool = False
    ) -> RenderedConversation:
        """Render a conversation; no message can write a control token that is not its own.

        Args:
            messages: contents are texts; a message may have none.
            add_reply: append the start of another turn of the assistant.
            has_feedback: append `FEEDBACK_MARK` to the first content.

        Raises:
            RejectedConversation: the template rejects the conversation, or rewrites its contents.
        """
        plain = [self._in_form(map_strings(dict(m), self.encoder.plain)) for m in messages]
        if has_feedback:
            plain[0]["content"] += FEEDBACK_MARK
        free = free_characters(plain)
        forged: dict[str, str] = {}
        clean = [self._without_forged(message, forged, free) for message in plain]
        replaced = {character: name for name, character in forged.items()}
        expected = self._replace(self._render(clean, add_reply), replaced)[0]
        for is_strict in (False, True):
            units = [self._units(message, is_strict, free) for message in plain]
            calls = [call_units(message, free) for message in plain]
            shapes = [
                marked_message(*parts) for parts in zip(clean, plain, units, calls, strict=True)
            ]
            marks = tuple(
                "".join(unit.mark for unit in (*parts, *names))
                for parts, names in zip(units, calls, strict=True)
            )
            text, turns = self._cached_turns(orjson.dumps(shapes), marks, add_reply)
            texts = {
                unit.mark: self.encoder.alias(unit.text, without=self._forbidden(message))
                for message, parts in zip(plain, units, strict=True)
                for unit in parts
            } | {unit.mark: unit.text for names in calls for unit in names}
            built, at, shifts = self._replace(text, {**replaced, **texts})
            if built != expected:
                continue
            positions = {text[p]: p + s for p, s in zip(at[::-1], shifts[-2::-1], strict=True)}
            return RenderedConversation(
                built,
                {n: Turn(*(p + shifts[bisect_left(at, p)] for p in turn)) for n, turn in turns},
                [
                    [(u.start, positions[u.mark], len(u.text)) for u in p if u.mark in positions]
                    for p in units
                ],
            )
        raise RejectedConversation(
            f"the chat template rewrites contents in a conversation of {roles_of(messages)}, so "
            "the assistant's text cannot be found; name another template in sft.template"
        )

    def _set_control(self, control: set[str]) -> None:
        self.encoder = TemplateEncoder(self._tokenizer, control)
        self.reserved: frozenset[str] = frozenset(control)
        question = {"role": "user", "content": QUESTION_MARK}
        bos = self._tokenizer.bos_token
        openers = [] if bos in (None, self._tokenizer.eos_token) else [bos]
        self._finder = TurnFinder(self._render, self.encoder.pattern, question, openers)
        self._cached_turns.cache_clear()

    def _try_contents(self) -> str:
        """Return the text of two turns, or of one; find whether contents are lists of parts."""
        try:
            text = self.render([_QUESTION, _ANSWER]).text
        except ConfigError as error:
            self._has_parts = True
            self._set_control(set(self.encoder.ids))
            try:
                text = self.render([_QUESTION, _ANSWER]).text
            except ConfigError:
                raise error from None
        try:
            return self._render([_QUESTION, _ANSWER, _QUESTION, _ANSWER], True)
        except ConfigError:
            return text

    def _find_tool_form(self) -> ToolForm | None:
        for form in TOOL_FORMS:
            messages = [TRIAL_CALL[0], in_tool_form(TRIAL_CALL[1], form)]
            for trial in (messages, [*messages, *TRIAL_RESULT]):
                try:
                    if writes_call(self._render(trial, False)):
                        return form
                except ConfigError:
                    pass
        return None

    def _learn_tokens(self, special: set[str]) -> None:
        """Learn from trial conversations which control tokens the assistant writes."""
        ends: dict[str, None] = {}
        written: set[str] = set()
        others: set[str] = set()
        trials: list[Messages] = [[_QUESTION, _ANSWER], [_QUESTION, _ANSWER] * 2]
        if self._tool_form is not None:
            trials += [TRIAL_CALL, [*TRIAL_CALL, *TRIAL_RESULT]]
        for number, messages in enumerate(trials):
            try:
                text, turns, contents = self.render(messages)
            except ConfigError:
                if not number:
                    raise
                continue
            if not number:
                _, at, size = contents[1][-1]
                if not text[at + size : turns[1].end].strip():
                    raise ConfigError(
                        "the chat template writes nothing after the assistant's content, so a "
                        "model would never end its turn; name another template in sft.template"
                    )
            at = 0
            for turn in turns.values():
                others.update(self.encoder.names_in(text[at : turn.start]))
                names = self.encoder.names_in(text[turn.start : turn.end])
                written.update(names)
                if names and self.encoder.alias(names[-1]) == text[: turn.end][-len(names[-1]) :]:
                    ends[names[-1]] = None
                at = turn.end
        # Reasoning is markup, wherever a template writes it.
        tokenizer = self._tokenizer
        markup = {name for name in self.encoder.ids if _is_markup(name, self.encoder.ids)}
        markup -= {tokenizer.bos_token, tokenizer.eos_token, *ends}
        self.reserved = frozenset((special | (others - written) | set(ends)) - markup)
        self.ends = tuple(self.encoder.ids[name] for name in ends)
        self.written = tuple(self.encoder.ids[name] for name in sorted(written))

    def _in_form(self, message: dict[str, Any]) -> dict[str, Any]:
        if not message.get("tool_calls"):
            return {**message, "content": message.get("content", "")}
        if self._tool_form is None:
            raise RejectedConversation(
                "the chat template does not write tool calls; name another template in sft.template"
            )
        return in_tool_form(message, self._tool_form)

    def _forbidden(self, message: Mapping[str, Any]) -> frozenset[str] | None:
        """Return the control tokens that a content cannot write, None for all of them."""
        return self.reserved if message["role"] == ASSISTANT else None

    def _without_forged(
        self, message: Mapping[str, Any], forged: dict[str, str], free: Iterator[str]
    ) -> dict[str, Any]:
        """Return a message with private characters for the control tokens it cannot write."""

        def hide(text: str, names: frozenset[str] | None = None) -> str:
            for name in set(self.encoder.pattern.findall(text)):
                if names is None or name in names:
                    if name not in forged:
                        forged[name] = next(free)
                    text = text.replace(name, forged[name])
            return text

        own = self._forbidden(message)
        return {
            key: hide(value, own) if isinstance(value, str) else map_strings(value, hide)
            for key, value in message.items()
        }

    def _units(
        self, message: Mapping[str, Any], is_strict: bool, free: Iterator[str]
    ) -> list[Unit]:
        """Return the parts of a content that the template cannot see.

        Some templates inspect contents. So markup of the assistant is visible to them, and at a
        second try the contents of all others.
        """
        content = message.get("content")
        if not content or (is_strict and message["role"] != ASSISTANT):
            return []
        if message["role"] == ASSISTANT:
            return markup_units(content, self.reserved, free)
        return whole_unit(content, free)

    def _turns(
        self, shapes: bytes, marks: Sequence[str], add_reply: bool
    ) -> tuple[str, list[tuple[int, Turn]]]:
        """Return the text of messages with private characters as contents, and its turns."""
        messages = orjson.loads(shapes)
        text = self._render(messages, add_reply)
        # A template may write the name of a call again with its result.
        at = {text[p]: p for p in reversed([match.start() for match in MARKS.finditer(text)])}
        spans = []
        for number, own in enumerate(marks):
            found = [at[mark] for mark in own if mark in at]
            if own and not found and messages[number]["role"] == ASSISTANT:
                raise RejectedConversation(
                    f"the chat template does not write the content of message {number} of "
                    f"{roles_of(messages)}; name another template in sft.template"
                )
            spans.append((min(found), max(found)) if found else (-1, -1))
        turns = [
            (number, self._finder.find(text, messages, number, spans))
            for number, message in enumerate(messages)
            if message["role"] == ASSISTANT
        ]
        if add_reply:
            turns.append((len(messages), self._finder.upcoming(text, messages)))
        return text, turns

    def _replace(self, text: str, by_mark: Mapping[str, str]) -> tuple[str, list[int], list[int]]:
        """Return a rendered text with its marks replaced and its control tokens in our spelling.

        Also returns the offsets of the marks, and by how much text after 0, 1, ... of them moves.
        """
        found = [match for match in MARKS.finditer(text) if match[0] in by_mark]
        at = [match.start() for match in found]
        own = [by_mark[match[0]] for match in found]
        literals = [
            self.encoder.alias(text[start:end])
            for start, end in zip([0, *(a + 1 for a in at)], [*at, len(text)], strict=True)
        ]
        built = literals[0] + "".join(a + b for a, b in zip(own, literals[1:], strict=True))
        return built, at, list(accumulate((len(one) - 1 for one in own), initial=0))

    def _render(self, messages: Messages, add_reply: bool) -> str:
        if self._has_parts:
            messages = [
                {**m, "content": [{"type": "text", "text": m["content"]}]}
                if isinstance(m.get("content"), str)
                else m
                for m in messages
            ]
        try:
            return self._tokenizer.apply_chat_template(  # type: ignore[no-any-return]
                list(messages), tokenize=False, add_generation_prompt=add_reply, **self._settings
            )
        except (TemplateError, TypeError, KeyError, ValueError, AttributeError) as error:
            raise RejectedConversation(
                f"the chat template rejects a conversation of {roles_of(messages)}: {error}"
            ) from None


def _is_markup(name: str, names: Mapping[str, Any]) -> bool:
    """Return True for `<x>` or `</x>` if the tokenizer has both."""
    twin = f"<{name[2:]}" if name.startswith("</") else f"</{name[1:]}"
    return name.startswith("<") and twin in names
