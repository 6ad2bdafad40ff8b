"""Keeps an open page of the admin up to date: a WebSocket that sends the page's living part whenever it has changed.

It is for staff with the page's permission, which is asked again from time to time: who is logged out or loses it is
closed. It is no connection of the cluster: neither counted nor listed.
"""

from __future__ import annotations

import asyncio
import json
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections
from django.http import parse_cookie

from monitoring.fragments import FRAGMENTS, Fragment
from realtime.middleware import header, is_origin_allowed
from realtime.protocol.closing import FORBIDDEN, TRY_AGAIN_LATER
from realtime.runtime import runtime
from realtime.server.socket import Receive, Scope, Send, send_denial

FEED_PATH = "/admin/feed/"
"""Below PATH_PREFIX, and below /admin/, which the balancers show to operators alone."""
LOOK_SECONDS = 2.0
LOOKS_PER_PERMISSION = 3
"""Looks between two questions whether the user still may."""
FEEDS_MAX = 50
"""Pages that one process keeps up to date; the others ask for themselves."""

_open = 0


async def feed(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application behind FEED_PATH; the query names the page, and has what the page's own query has."""
    global _open
    await receive()
    runtime().proxies.settle(scope)
    query = dict(parse_qsl(scope["query_string"].decode("latin1")))
    fragment = FRAGMENTS.get(query.pop("page", ""))
    if not is_origin_allowed(scope, runtime().origin_rules):
        runtime().instrument.connection_refused("origin")
        await send_denial(scope, send, 403, [])
        return
    if fragment is None:
        await send_denial(scope, send, 403, [])
        return
    if not await _may_see(scope, fragment):
        runtime().instrument.operator_page_refused("feed")
        await send_denial(scope, send, 403, [])
        return
    if _open >= FEEDS_MAX:
        await send_denial(scope, send, 503, [(b"retry-after", b"30")])
        return
    _open += 1
    try:
        await send({"type": "websocket.accept"})
        await _serve(scope, receive, send, fragment, query)
    finally:
        _open -= 1


async def _serve(scope: Scope, receive: Receive, send: Send, fragment: Fragment, query: dict[str, str]) -> None:
    gone = asyncio.ensure_future(_until_gone(receive))
    sent, looks = "", 0
    try:
        while not gone.done():
            looks += 1
            if looks % LOOKS_PER_PERMISSION == 0 and not await _may_see(scope, fragment):
                await send({"type": "websocket.close", "code": FORBIDDEN.code, "reason": FORBIDDEN.reason})
                return
            node = runtime().node
            if node is None or not node.is_accepting:
                await send({"type": "websocket.close", "code": TRY_AGAIN_LATER.code, "reason": TRY_AGAIN_LATER.reason})
                return
            html = await sync_to_async(_render, thread_sensitive=False)(fragment, query)
            if html != sent and not gone.done():
                sent = html
                await send({"type": "websocket.send", "text": json.dumps({"html": html})})
            await asyncio.wait([gone], timeout=LOOK_SECONDS)
    finally:
        gone.cancel()


def _render(fragment: Fragment, query: dict[str, str]) -> str:
    try:
        return fragment.render(query)
    finally:
        close_old_connections()  # this thread belongs to nobody


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass  # a page has nothing to say


async def _may_see(scope: Scope, fragment: Fragment) -> bool:
    from channels.auth import get_user

    key = parse_cookie(header(scope, b"cookie")).get(settings.SESSION_COOKIE_NAME)
    if not key:
        return False
    session: Any = {"session": import_module(settings.SESSION_ENGINE).SessionStore(key)}
    user: Any = await get_user(session)
    if not (user.is_active and user.is_staff):
        return False
    return bool(await sync_to_async(user.has_perm)(fragment.permission))
