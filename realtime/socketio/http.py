"""HTTP requests of Socket.IO clients: bodies in, answers out, and what browsers want to hear about origins."""

from __future__ import annotations

from realtime.middleware import header
from realtime.origins import OriginRules, judge_origin
from realtime.protocol.engineio import Refusal, Refused
from realtime.server.socket import Receive, Scope, Send
from realtime.socketio.session import Answer

PREFLIGHT_SECONDS = 7200

Headers = list[tuple[bytes, bytes]]


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """The body of a request. Raises Refused for one that is too large, and EOFError when the client is gone."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise EOFError
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise Refused(Refusal.TOO_LARGE)
        if not message.get("more_body", False):
            return bytes(body)


def origin_headers(scope: Scope, rules: OriginRules) -> Headers:
    """Lets the page of another origin that is allowed read the answers. ``*`` allows no cookies."""
    origin = header(scope, b"origin")
    if not origin or judge_origin(scope["headers"], scope["scheme"], rules) is not None:
        return []
    if rules.any_is_allowed:
        return [(b"access-control-allow-origin", b"*")]
    return [
        (b"access-control-allow-origin", origin.encode("latin1")),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"Origin"),
    ]


async def send_answer(send: Send, answer: Answer, headers: Headers) -> None:
    """One response, which nobody may keep."""
    kind = b"text/plain; charset=UTF-8" if answer.status == 200 else b"application/json"
    fixed = [
        (b"content-type", kind),
        (b"content-length", str(len(answer.body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if answer.status == Refusal.UNAVAILABLE.status:
        fixed.append((b"retry-after", b"5"))
    await send({"type": "http.response.start", "status": answer.status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": answer.body})


async def send_preflight(scope: Scope, send: Send, headers: Headers) -> None:
    """A browser asks what the page of another origin may send."""
    wanted = header(scope, b"access-control-request-headers")
    allowed: Headers = []
    if headers:
        allowed = [
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-max-age", str(PREFLIGHT_SECONDS).encode()),
        ]
        if wanted and "*" not in wanted:
            allowed.append((b"access-control-allow-headers", wanted.encode("latin1")))
    await send({"type": "http.response.start", "status": 204, "headers": [*headers, *allowed]})
    await send({"type": "http.response.body", "body": b""})
