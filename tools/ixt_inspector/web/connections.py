"""Connections of clients: limits per client, and a deadline for each request.

A connection that sends nothing costs a client nothing. So a connection has some seconds to complete
a request, and a new connection replaces the oldest one that waits for a request.
"""

import asyncio
from collections.abc import Iterable
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 200
MAX_CLIENT_CONNECTIONS = 64
"""Connections of one address. A browser opens six; those behind a proxy share its address."""
REQUEST_SECONDS = 10.0
"""Time in which a connection must complete its request, also its next one."""


class BoundedConnection(H11Protocol):
    """An HTTP connection with a deadline, which counts against the limits of its client."""

    _deadline: asyncio.TimerHandle | None = None
    _waits_since: float = 0.0

    @property
    def is_waiting(self) -> bool:
        """Return whether no complete request is being answered."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or refuse it if its client has too many requests in progress."""
        others = cast("Iterable[BoundedConnection]", self.connections)
        peer = transport.get_extra_info("peername")
        own = [one for one in others if one.client and peer and one.client[0] == peer[0]]
        has_room = _make_room(own, MAX_CLIENT_CONNECTIONS)
        _make_room(list(others), MAX_CONNECTIONS - 1)
        super().connection_made(transport)
        self._start_deadline()
        if not has_room:
            transport.abort()

    def on_response_complete(self) -> None:
        """Give the next request its time."""
        super().on_response_complete()
        self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def drop(self) -> None:
        """Close it immediately."""
        self.connections.discard(self)
        self.transport.abort()

    def _start_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._waits_since = self.loop.time()
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self._end_wait)

    def _end_wait(self) -> None:
        if self.is_waiting:
            self.drop()


def _make_room(connections: list[BoundedConnection], limit: int) -> bool:
    """Drop waiting connections, the oldest first; return whether fewer than `limit` remain."""
    waiting = sorted(
        (one for one in connections if one.is_waiting), key=lambda one: one._waits_since
    )
    excess = len(connections) - limit + 1
    for one in waiting[: max(0, excess)]:
        one.drop()
    return excess <= len(waiting)
