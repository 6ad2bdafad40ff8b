"""Keeps an open page of the admin up to date: a WebSocket that sends the page's living part whenever it has changed.

It is for staff with the page's permission. Whose session or account ends is closed at once, on whichever node that
happened; the permission is asked again from time to time. It is no connection of the cluster: neither counted nor
listed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from django.conf import settings
from django.db import close_old_connections
from django.http import parse_cookie

from monitoring.fragments import FRAGMENTS, Fragment
from realtime.middleware import header, is_origin_allowed
from realtime.node import Node
from realtime.protocol.closing import FORBIDDEN, TRY_AGAIN_LATER, UNAUTHORIZED, CloseCode
from realtime.runtime import current_node, runtime
from realtime.server.socket import Receive, Scope, Send, send_denial
from realtime.sessions import open_session, tag_of

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
    key = parse_cookie(header(scope, b"cookie")).get(settings.SESSION_COOKIE_NAME, "")
    user = await _who_may_see(key, fragment)
    if user is None:
        runtime().instrument.operator_page_refused("feed")
        await send_denial(scope, send, 403, [])
        return
    node = current_node()
    if node is None or _open >= FEEDS_MAX:
        await send_denial(scope, send, 503, [(b"retry-after", b"30")])
        return
    _open += 1
    try:
        await send({"type": "websocket.accept"})
        await _serve(_Page(node, fragment, query, key, user), receive, send)
    finally:
        _open -= 1


@dataclass(frozen=True, slots=True)
class _Page:
    """An open page: what it shows, and to whom."""

    node: Node
    fragment: Fragment
    query: dict[str, str]
    key: str
    user: str


async def _serve(page: _Page, receive: Receive, send: Send) -> None:
    async with page.node.orders.guest(page.user, tag_of(page.key)) as session_ended:
        gone = asyncio.ensure_future(_until_gone(receive))
        revoked = asyncio.ensure_future(session_ended.wait())
        try:
            close = await _keep_up_to_date(page, send, gone, revoked)
            if close is not None:
                await send({"type": "websocket.close", "code": close.code, "reason": close.reason})
        finally:
            gone.cancel()
            revoked.cancel()


async def _keep_up_to_date(
    page: _Page, send: Send, gone: asyncio.Future[None], revoked: asyncio.Future[Any]
) -> CloseCode | None:
    """Until the page goes or must go: then with that code."""
    sent, looks = "", 0
    while not gone.done():
        # Also in the first round: the session may have ended between the first question and the guest's listening.
        if looks % LOOKS_PER_PERMISSION == 0 and await _who_may_see(page.key, page.fragment) != page.user:
            return FORBIDDEN
        looks += 1
        if not page.node.is_accepting:
            return TRY_AGAIN_LATER
        html = await _unless(revoked, sync_to_async(_render, thread_sensitive=False)(page.fragment, page.query))
        if html is not None and html != sent and not gone.done():
            sent = html
            await send({"type": "websocket.send", "text": json.dumps({"html": html})})
        await asyncio.wait([gone, revoked], timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if revoked.done():
            return UNAUTHORIZED
    return None


async def _unless(over: asyncio.Future[Any], doing: Coroutine[Any, Any, str]) -> str | None:
    """What it comes to; None as soon as ``over`` is done."""
    task = asyncio.ensure_future(doing)
    try:
        await asyncio.wait([task, over], return_when=asyncio.FIRST_COMPLETED)
        return None if over.done() else task.result()
    finally:
        task.cancel()


def _render(fragment: Fragment, query: dict[str, str]) -> str:
    try:
        return fragment.render(query)
    finally:
        close_old_connections()  # this thread belongs to nobody


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass  # a page has nothing to say


@database_sync_to_async
def _who_may_see(key: str, fragment: Fragment) -> str | None:
    """The primary key of the user of this session, who is staff and has the permission; None for anybody else."""
    user = open_session(key)[1] if key else None
    if user is None or not getattr(user, "is_staff", False) or not user.has_perm(fragment.permission):
        return None
    return str(user.pk)
