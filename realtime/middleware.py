"""What is known about a client before it is accepted: where it comes from, and who its cookie says it is."""

from __future__ import annotations

import logging
import time
from urllib.parse import parse_qs

from realtime.auth import ANONYMOUS, Identity
from realtime.authentication import handshake, own_identity
from realtime.conf import Settings
from realtime.logs import LineLimit
from realtime.origins import OriginRules, judge_origin
from realtime.server.socket import Scope

logger = logging.getLogger("realtime.middleware")

_refusals = LineLimit()

SUBPROTOCOL = "realtime"
"""What a client asks for that sends its token in the handshake, and all that it is answered."""
TOKEN_SUBPROTOCOL = "token."
"""Before the token, in another subprotocol beside that one."""


def header(scope: Scope, name: bytes) -> str:
    """The last header of that name, decoded; empty when there is none."""
    value = b""
    for key, candidate in scope.get("headers", []):
        if key == name:
            value = candidate
    return value.decode("latin1")


def is_origin_allowed(scope: Scope, rules: OriginRules) -> bool:
    """Whether the page that asks may. What proxies say has been settled before (``TrustedProxies``)."""
    reason = judge_origin(scope["headers"], scope["scheme"], rules)
    if reason is None:
        return True
    unlogged = _refusals.admit(time.monotonic())
    if unlogged is not None:
        logger.warning(
            "origin_refused reason=%r origin=%r scheme=%s host=%r address=%s path=%s unlogged=%d",
            reason, header(scope, b"origin")[:256], scope["scheme"], header(scope, b"host")[:256],
            remote_address(scope), scope["path"], unlogged,
        )  # fmt: skip
    return False


def remote_address(scope: Scope) -> str:
    """The client's address, once what proxies say has been settled; empty on a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def chosen_subprotocol(scope: Scope) -> str | None:
    """The subprotocol that the server answers with: ours if it was asked for, and never the one with the token."""
    return SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", ()) else None


def token_of(scope: Scope, query_parameter: str) -> str | None:
    """The token in the handshake: in a subprotocol, or in this field of the query, if it has a name."""
    for offered in scope.get("subprotocols", ()):
        if offered.startswith(TOKEN_SUBPROTOCOL):
            return str(offered.removeprefix(TOKEN_SUBPROTOCOL))
    if not query_parameter:
        return None
    values = parse_qs(scope.get("query_string", b"").decode("latin1")).get(query_parameter)
    return values[-1] if values else None


def forget_token(scope: Scope) -> None:
    """It has been read: before the server writes its access log, and as long as the client stays."""
    scope["subprotocols"] = []
    scope["query_string"] = b""


async def identity_of(scope: Scope, settings: Settings) -> Identity:
    """Whom the project's own hook names, else the user of the Django session in the cookie.

    Without a cookie anonymous, and no database query.
    """
    own = await own_identity(settings, lambda: handshake(scope))
    if own is not None:
        return own
    from channels.db import database_sync_to_async
    from django.conf import settings as django_settings
    from django.http import parse_cookie

    key = parse_cookie(header(scope, b"cookie")).get(django_settings.SESSION_COOKIE_NAME)
    if not key:
        return ANONYMOUS
    from realtime.sessions import read_session

    return await database_sync_to_async(read_session)(key)
