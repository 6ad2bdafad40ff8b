"""What is known about a client before it is accepted: where it comes from, and who its cookie says it is."""

from __future__ import annotations

import logging
import time
from importlib import import_module

from realtime.auth import ANONYMOUS, Identity
from realtime.logs import LineLimit
from realtime.origins import OriginRules, judge_origin
from realtime.server.socket import Scope

logger = logging.getLogger("realtime.middleware")

_refusals = LineLimit()


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


async def identity_of(scope: Scope) -> Identity:
    """The user of the Django session in the cookie; without a cookie anonymous, and no database query."""
    from channels.auth import get_user
    from django.conf import settings
    from django.http import parse_cookie

    key = parse_cookie(header(scope, b"cookie")).get(settings.SESSION_COOKIE_NAME)
    if not key:
        return ANONYMOUS
    session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    user = await get_user({"session": session})  # type: ignore[typeddict-item]  # all that it reads
    if not user.is_authenticated or not user.is_active:
        return ANONYMOUS
    return Identity(user=str(user.pk), label=user.get_username())
