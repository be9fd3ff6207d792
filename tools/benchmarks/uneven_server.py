"""An OpenAI-compatible server with few slots and uneven response times, as thinking judges have.

Run `python tools/benchmarks/uneven_server.py SLOTS MEAN_SECONDS`; it prints its port. `/busy`
returns the seconds that its slots were busy so far.
"""

import asyncio
import json
import random
import sys
import time

from aiohttp import web
from instant_server import CRITIQUED, PAGES


def _body(page: bytes) -> bytes:
    return page.split(b"\r\n\r\n", 1)[1]


class Judge:
    """A judge whose response times are exponential with a mean, a fixed sequence of seconds."""

    def __init__(self, slots: int, mean: float) -> None:
        self.slots, self.mean = asyncio.Semaphore(slots), mean
        self.random = random.Random(17)
        self.busy = 0.0

    async def chat(self, request: web.Request) -> web.Response:
        """Return a critique after a slot was busy for a while."""
        await request.read()
        async with self.slots:
            start = time.monotonic()
            await asyncio.sleep(self.random.expovariate(1 / self.mean))
            self.busy += time.monotonic() - start
        return web.Response(body=_body(CRITIQUED), content_type="application/json")

    async def other(self, request: web.Request) -> web.Response:
        """Return a fixed page, or the busy seconds."""
        if request.path == "/busy":
            return web.Response(text=json.dumps(self.busy), content_type="application/json")
        page = PAGES.get(request.path.encode())
        if page is None:
            return web.Response(status=404)
        return web.Response(body=_body(page), content_type="application/json")


async def main(slots: int, mean: float) -> None:
    """Serve until the process ends."""
    judge = Judge(slots, mean)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", judge.chat)
    app.router.add_route("*", "/{rest:.*}", judge.other)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server = site._server
    assert isinstance(server, asyncio.Server)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
