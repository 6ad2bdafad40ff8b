"""Keeps a development server to its own machine.

With DEBUG on, Django shows source and settings to whoever causes an error, so only loopback peers may talk
to it. Headers written by proxies are believed in one direction only: they can refuse a request, never allow
one.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from ipaddress import IPv6Address, ip_address
from typing import Any

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

PROXY_HEADERS = frozenset({b"x-forwarded-for", b"x-real-ip"})
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


def first_stranger(scope: Scope) -> str | None:
    """The first address on the request's way that is not loopback, or None."""
    for address in _addresses(scope):
        if not is_loopback(address):
            return address
    return None


def is_loopback(address: str) -> bool:
    """Whether the text is a loopback address; what cannot be read is not."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped.is_loopback
    return parsed.is_loopback


def _addresses(scope: Scope) -> Iterable[str]:
    client = scope.get("client")
    if client:  # a peer on a Unix socket has no address
        yield str(client[0])
    for name, value in scope.get("headers", ()):
        if name.lower() in PROXY_HEADERS:
            yield from (part.strip() for part in value.decode("latin-1").split(",") if part.strip())


async def _forbid(send: Send) -> None:
    body = f"{ADVICE}.\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
