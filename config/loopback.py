"""Keeps a development server to its own machine.

With DEBUG on, Django shows source and settings to whoever causes an error, so only loopback peers may talk
to it. Headers written by proxies are believed in one direction only: they can refuse a request, never allow
one.
"""

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from realtime.peers import Scope, first_stranger

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

WARNING_INTERVAL_SECONDS = 60.0
ADVICE = "DEBUG is on, so only loopback peers are served; set DJANGO_DEBUG=0 to serve others"


class LoopbackOnly:
    """Answers 403 to peers of other machines and hands everything else on untouched."""

    def __init__(self, inner: Application, clock: Callable[[], float] = time.monotonic) -> None:
        self.inner = inner
        self.clock = clock
        self.warned_at = -WARNING_INTERVAL_SECONDS  # by the clock; the first refusal always warns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stranger = first_stranger(scope) if scope["type"] in ("http", "websocket") else None
        if stranger is None:
            await self.inner(scope, receive, send)
            return
        self._warn(stranger)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            await _forbid(send)

    def _warn(self, stranger: str) -> None:
        now = self.clock()
        if now - self.warned_at >= WARNING_INTERVAL_SECONDS:
            self.warned_at = now
            logger.warning("peer_refused peer=%r reason=%r", stranger, ADVICE)


async def _forbid(send: Send) -> None:
    body = f"{ADVICE}.\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
