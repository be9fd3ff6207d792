"""Documents and a judge's context: whole, in parts, or as an excerpt with head, middle and tail."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable

from ixt_data.critics.chunked import Chunk, chunks_of
from ixt_data.critics.rubric import EXCERPTED
from ixt_data.critics.vllm import judge_info
from ixt_data.critics.vllm.client import (
    Client,
    ConnectionBroken,
    EndpointUnreachable,
    RequestTimeout,
)
from ixt_data.critics.vllm.endpoint import Endpoint
from ixt_data.critics.vllm.endpoint_pool import EndpointPool
from ixt_data.critics.vllm.failures import FailureStatus, InvalidResponse
from ixt_data.critics.vllm.judge_info import Judge
from ixt_data.critics.vllm.prompts import BYTES_PER_TOKEN, PromptBuilder, excerpt
from ixt_data.records import Document

ESTIMATED = "estimated_tokens"

MAX_BYTES_PER_TOKEN = 16
"""Assumed upper bound of the average bytes per token of a text.

A document that is too long even so is excerpted uncounted: counting it takes a server minutes.
"""

COUNT_CHARS = 1 << 18
"""Characters of a plain text per request to count tokens."""

SAMPLE_CHARS = 1 << 16
"""Characters whose tokens decide how a document is divided."""

PART_SHARE = 0.9
"""Share of the free tokens that a part has on average; parts differ in characters per token."""

_RESERVED_TOKENS = 16
"""Tokens left free, because servers add a few of their own to a conversation."""


class PromptFit:
    """The part of a document that one request shows to a judge with a limited context.

    Args:
        prompts: builds the messages.
        endpoints: the servers.
        client: for token counts, which need no free endpoint.
        judge: facts about the judge.
        usage: counts the requests for token counts.
    """

    def __init__(
        self,
        prompts: PromptBuilder,
        endpoints: EndpointPool,
        client: Client,
        judge: Judge,
        usage: Counter[str],
    ) -> None:
        self._prompts, self._endpoints, self._client = prompts, endpoints, client
        self._judge, self._usage, self._rubric = judge, usage, prompts.rubric

    @property
    def free_tokens(self) -> int | None:
        """Tokens of a document that fit into one request; None where the context is not known."""
        if self._judge.context is None:
            return None
        return self._judge.context - self._prompts.max_tokens - _RESERVED_TOKENS - self._overhead

    @property
    def _overhead(self) -> int:
        return self._judge.overhead or self._prompts.estimated_overhead

    def describe(self) -> str | None:
        """Return what happens to long documents, for the start of a run; None without a limit."""
        if (free := self.free_tokens) is None:
            return None
        rules = self._rubric.long
        fate = {
            "parts": f"judged in parts, up to {rules.max_parts}; longer ones are excerpted",
            "excerpts": "excerpted",
            "refuse": "too_long",
        }
        return f"documents of more than about {free:,} tokens are {fate[rules.policy]}"

    def divide(self, document: Document, loop: asyncio.AbstractEventLoop) -> list[Chunk] | None:
        """Return the parts of a document that does not fit; None if one request is enough.

        A document of more than `max_parts` parts is not divided: it is excerpted.

        Args:
            document: the document.
            loop: counts tokens; it must not be running.
        """
        free = self.free_tokens
        if self._rubric.long.policy != "parts" or free is None:
            return None
        size = len(document.text.encode())
        # No tokenizer makes more tokens than bytes, and few texts have so many bytes per token.
        if size <= free or size > MAX_BYTES_PER_TOKEN * free * self._rubric.long.max_parts:
            return None
        return loop.run_until_complete(self._divide_counted(document, free))

    async def _divide_counted(self, document: Document, free: int) -> list[Chunk] | None:
        text, max_parts = document.text, self._rubric.long.max_parts
        sample = text[:SAMPLE_CHARS]
        message = self._rubric.user_message(document, sample)
        counted = await self._count(message, set()) - self._overhead
        tokens = max(1.0, counted * len(text) / len(sample))
        chars = max(1, int(len(text) * PART_SHARE * free / tokens))
        if tokens <= free or len(text) > chars * max_parts:
            return None
        return chunks_of(text, chars)

    async def prompt(self, document: Document, flags: set[str]) -> tuple[str, float]:
        """Return the user message for a document, and the share of the document in it.

        Args:
            document: the document.
            flags: gets flags on what was done to it.

        Raises:
            InvalidResponse: the document is too long.
        """
        context = self._judge.context
        if context is None:
            return self._rubric.user_message(document), 1.0
        budget = context - self._prompts.max_tokens - _RESERVED_TOKENS
        size, overhead = len(document.text.encode()), self._judge.overhead
        if size > MAX_BYTES_PER_TOKEN * budget:
            size_text = f"over {size // MAX_BYTES_PER_TOKEN:,}"
            return await self._excerpt(document, flags, size_text, budget)
        message = self._rubric.user_message(document)
        # No tokenizer makes more tokens than bytes, so short documents need no count.
        if overhead is not None and overhead + size <= budget:
            return message, 1.0
        tokens = await self._count(message, flags)
        if tokens <= budget:
            return message, 1.0
        return await self._excerpt(document, flags, f"{tokens:,}", budget, tokens)

    async def _excerpt(
        self,
        document: Document,
        flags: set[str],
        size_text: str,
        budget: int,
        tokens: int | None = None,
    ) -> tuple[str, float]:
        rules, text = self._rubric.long, document.text
        overhead = await self._count(self._rubric.empty_message, flags)
        tokens = tokens or len(text.encode()) // MAX_BYTES_PER_TOKEN + overhead
        chars = len(text) * (budget - overhead) / max(1, tokens - overhead)
        flags.add(EXCERPTED)
        # Characters per token differ within a document: a few rounds converge.
        for _ in range(6):
            part, coverage = excerpt(text, int(0.97 * chars), rules)
            if rules.policy == "refuse" or coverage < rules.min_coverage:
                break
            prompt = self._rubric.user_message(document, part)
            counted = await self._count(prompt, flags)
            if counted <= budget:
                return prompt, coverage
            chars = 0.97 * chars * (budget - overhead) / max(1, counted - overhead)
        flags.discard(EXCERPTED)
        raise InvalidResponse(
            FailureStatus.too_long,
            f"{size_text} tokens of prompt and {self._prompts.max_tokens:,} of completion do not "
            f"fit into {budget + self._prompts.max_tokens + _RESERVED_TOKENS:,}",
        )

    async def count_text(self, text: str) -> int:
        """Return the tokens of a plain text, an estimate where no server counts them."""
        total = 0
        for start in range(0, len(text), COUNT_CHARS):
            part = text[start : start + COUNT_CHARS]

            async def request(endpoint: Endpoint, part: str = part) -> int | None:
                return await judge_info.count_text(self._client, endpoint, self._prompts, part)

            counted = await self._request_count(request)
            total += int(len(part.encode()) / BYTES_PER_TOKEN) if counted is None else counted
        return total

    async def _count(self, user: str, flags: set[str]) -> int:
        messages = self._prompts.messages(user)

        async def request(endpoint: Endpoint) -> int | None:
            return await judge_info.count_conversation(
                self._client, endpoint, self._prompts, messages
            )

        counted = await self._request_count(request)
        if counted is not None:
            return counted
        flags.add(ESTIMATED)
        size = sum(len(message["content"].encode()) for message in messages)
        return int(size / BYTES_PER_TOKEN)

    async def _request_count(
        self, request: Callable[[Endpoint], Awaitable[int | None]]
    ) -> int | None:
        """Return the first count of a server, None where no server counts."""
        for _ in range(100 if self._judge.can_count else 0):
            for endpoint in self._endpoints.all:
                if not endpoint.is_up:
                    continue
                with contextlib.suppress(EndpointUnreachable, ConnectionBroken, RequestTimeout):
                    self._usage["token_counts"] += 1
                    if (counted := await request(endpoint)) is not None:
                        return counted
            if self._endpoints.fatal is not None:
                raise self._endpoints.fatal
            await asyncio.sleep(0.5)
        return None
