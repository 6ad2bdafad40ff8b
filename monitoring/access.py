"""Who may ask a node for its metrics and its health: staff, whoever has the token, and for metrics this machine.

Balancers keep these pages from clients. This is for a node that is reached past them.
"""

from __future__ import annotations

import logging
import time
from secrets import compare_digest

from django.http import HttpRequest, JsonResponse

from realtime.logs import LineLimit
from realtime.peers import IS_OWN_MACHINE, is_loopback
from realtime.runtime import runtime

logger = logging.getLogger("realtime.access")

_refusals = LineLimit(most=20)

FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_FORWARDED")


def is_token(authorization: str, token: str) -> bool:
    """Whether a header ``Authorization: Bearer …`` carries ``token``; no header does while the token is empty."""
    scheme, _, given = authorization.partition(" ")
    is_same = compare_digest(given.strip().encode(), token.encode())  # in the same time, however much of it is right
    return bool(token) and scheme.lower() == "bearer" and is_same


def has_token(request: HttpRequest, token: str) -> bool:
    """Whether a request carries ``token``."""
    return is_token(request.headers.get("Authorization", ""), token)


def is_this_machine(request: HttpRequest) -> bool:
    """Whether a request comes from this machine, and every proxy on its way says so as well.

    A proxy's header can take that away, never give it. ``realtime.routing`` has looked at it first; what came in
    another way still has its headers.
    """
    marked = getattr(request, "scope", {}).get(IS_OWN_MACHINE)
    if marked is not None:
        return bool(marked)
    claimed = (part.strip() for name in FORWARDED for part in request.META.get(name, "").split(","))
    addresses = [request.META.get("REMOTE_ADDR", ""), *claimed]
    return all(is_loopback(address) for address in addresses if address)


def refuse(request: HttpRequest, page: str, words: str) -> JsonResponse:
    """403, counted and logged."""
    reason = "wrong token" if "Authorization" in request.headers else "no token"
    peer = request.META.get("REMOTE_ADDR", "")
    unlogged = _refusals.admit(time.monotonic())
    if unlogged is not None:
        logger.warning("operator_page_refused page=%s peer=%s reason=%r unlogged=%d", page, peer, reason, unlogged)
    runtime().instrument.operator_page_refused(page)
    return JsonResponse({"error": words}, status=403)
