"""Requests for a batch, and critiques from its responses."""

from collections import Counter
from dataclasses import dataclass, replace

import orjson

from ixt_data.critics.rubric import INSTRUCTS_JUDGE, instructs_judge
from ixt_data.critics.vllm.capabilities import Capabilities, StructuredOutput
from ixt_data.critics.vllm.client import HttpResponse
from ixt_data.critics.vllm.document_request import DocumentRequester, covered
from ixt_data.critics.vllm.failures import InvalidResponse
from ixt_data.critics.vllm.prompts import PromptBuilder
from ixt_data.critics.vllm.responses import read_judge_response, to_critique
from ixt_data.critics.vllm.spending import Reservation, Spending
from ixt_data.records import Critique, Document


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One line of a file of requests.

    Attributes:
        line: JSON with the end of the line.
        prompt_bytes: bytes of the messages.
        max_tokens: maximum of completion tokens.
    """

    line: bytes
    prompt_bytes: int
    max_tokens: int


@dataclass(frozen=True)
class BatchJudge:
    """What batches need of a judge.

    Attributes:
        requester: fits documents into the context.
        prompts: builds the requests.
        server: what the server takes.
        spending: counts the cost and keeps its bound.
        usage: counts requests and tokens.
        attempts: maximum of requests per document.
    """

    requester: DocumentRequester
    prompts: PromptBuilder
    server: Capabilities
    spending: Spending
    usage: Counter[str]
    attempts: int

    async def request(self, document: Document, attempt: int) -> BatchRequest:
        """Return the request for a document.

        Args:
            document: the document.
            attempt: number of the attempt, from 0.

        Raises:
            InvalidResponse: the document is too long.
        """
        prompt, _ = await self.requester.fit.prompt(document, set())
        line = {
            "custom_id": f"{document.doc_id.hex()}-{attempt}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": orjson.Fragment(self.prompts.chat(prompt, attempt, self.server)),
        }
        return BatchRequest(
            orjson.dumps(line) + b"\n",
            self.requester.prompt_bytes(prompt),
            self.prompts.max_tokens * self.prompts.sampling.samples,
        )

    async def critique(
        self,
        document: Document,
        attempt: int,
        reply: HttpResponse | InvalidResponse,
        expected: Reservation | None,
    ) -> Critique:
        """Return the critique in a response, and count its cost.

        Args:
            document: the document.
            attempt: number of the attempt, from 0.
            reply: the response, or why there is none.
            expected: the reserved cost; None for a batch of an earlier command.

        Raises:
            InvalidResponse, Overloaded, EngineCrashed: it has none.
            CriticError: every document would fail.
        """
        self.usage["requests"] += 1
        if isinstance(reply, InvalidResponse):
            if expected is not None:
                expected.cancel()
            raise reply
        used = (expected or Reservation(0.0, 0)).record(reply)
        if expected is None:
            self.spending.pay_tokens(used["tokens_in"], used["tokens_out"])
        flags = {INSTRUCTS_JUDGE} if instructs_judge(document.text) else set[str]()
        if self.server.structured is not StructuredOutput.json_schema:
            flags.add(f"answer_by_{self.server.structured}")
        response = read_judge_response(reply, self.prompts.rubric, self.prompts.max_tokens)
        self.usage.update(response.tokens)
        if not response.judgements:
            raise response.failures[0]
        _, coverage = await self.requester.fit.prompt(document, flags)
        critique = to_critique(document, response, self.prompts.rubric, flags)
        return replace(covered(critique, coverage), attempts=attempt + 1)
