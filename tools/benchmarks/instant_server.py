"""An OpenAI-compatible server that responds immediately, to measure only the client.

python tools/benchmarks/instant_server.py        prints its port
"""

import asyncio
import json

SCORES = {"education": 3, "writing": 4, "facts": 3, "integrity": 5}
CRITIQUE = (
    "The page explains one subject in whole sentences, but gives no source for its numbers. "
    "Its examples follow from the definitions, and a reader can check each step alone. "
    "Two paragraphs near the end say little that the title does not already promise."
)
COMPLETION = json.dumps({"critique": CRITIQUE, "flags": [], "scores": SCORES, "overall": 3})
THINKING = (
    "The text begins with a definition. It continues with an example. No source is named. " * 12
)
TOP = [{"token": str(digit), "logprob": -1.8} for digit in range(6)]


def _page(body: object) -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def _chat(content: str, reasoning: str | None, logprobs: object) -> bytes:
    message = {"role": "assistant", "content": content, "reasoning": reasoning}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": logprobs}
    usage = {"prompt_tokens": 1400, "completion_tokens": 330}
    return _page({"id": "chat", "choices": [choice], "usage": usage})


CRITIQUED = _chat(COMPLETION, THINKING, None)
DIGIT = _chat("3", None, {"content": [{"token": "3", "logprob": -1.8, "top_logprobs": TOP}]})
PAGES = {
    b"/v1/models": _page({"data": [{"id": "judge", "max_model_len": 32768}]}),
    b"/tokenize": _page({"count": 1200, "max_model_len": 32768, "tokens": [1, 2, 3]}),
    b"/detokenize": _page({"prompt": "a prompt"}),
    b"/health": _page({}),
    b"/metrics": _page({}),
}


class InstantProtocol(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.data = transport, b""

    def data_received(self, data: bytes) -> None:
        """Respond to every complete request."""
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end]
            at = head.lower().find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.data) < end + 4 + size:
                return
            body, self.data = self.data[end + 4 : end + 4 + size], self.data[end + 4 + size :]
            path = head.split(b" ", 2)[1]
            chat = DIGIT if b'"logprobs":true' in body[-200:] else CRITIQUED
            self.transport.write(PAGES.get(path, chat))


async def main() -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(InstantProtocol, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
