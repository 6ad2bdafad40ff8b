"""The outermost ASGI application: ``/ws/`` to our consumer, ``/socket.io/``, everything else to the project's own.

All paths that are ours begin with PATH_PREFIX.
"""

from __future__ import annotations

import asyncio
import logging

from django.core import checks

from realtime import conf
from realtime.authentication import require_hook
from realtime.consumers import RealtimeConsumer
from realtime.judge import permissions_named
from realtime.node import Node
from realtime.peers import mark_own_machine
from realtime.proxies import TrustedProxies
from realtime.runtime import runtime
from realtime.server import daphne_hooks, uvicorn_hooks
from realtime.server.socket import Application, Receive, Scope, Send, send_denial
from realtime.socketio.server import SocketIOServer

logger = logging.getLogger("realtime.routing")

SOCKETIO_PATHS = frozenset({"/socket.io", "/socket.io/"})
WEBSOCKET_PATHS = frozenset({"/ws", "/ws/"})

_other_paths: dict[str, Application] = {}
_wrapped: list[Application] = []

_NO_ROUTE = (
    "No route found for path",
    "No application configured for scope type",
    "Django can only handle ASGI/HTTP",
)


def realtime_application(inner: Application) -> Application:
    """``inner`` (Django's application, or a Channels ``ProtocolTypeRouter`` with routes of its own) as a node.

    Adds ``/ws/`` and ``/socket.io/``, starts the node with the server (daphne, or any server with lifespan), and
    refuses WebSockets of unknown paths with 404 instead of a traceback. Raises BadSetting where no node could start.
    """
    require_hook(conf.current())
    permissions_named(conf.current().permissions)
    if daphne_hooks.is_daphne_running_us():
        daphne_hooks.DaphneHooks(runtime(), on_running=_look_when_started).install()
    _wrapped.append(inner)
    return _RealtimeApplication(inner)


def behind_proxies(inner: Application) -> Application:
    """Django's application, told the client's address and scheme by TRUSTED_PROXIES and by nobody else."""
    proxies = TrustedProxies(conf.current().trusted_proxies)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            proxies.settle(scope)
        await inner(scope, receive, send)

    return application


def add_websocket(path: str, application: Application) -> None:
    """Serve WebSockets of ``path`` by ``application`` on every node, before the project's own routes."""
    _other_paths[path] = application


def wrapped_applications() -> tuple[Application, ...]:
    """What this process has wrapped so far."""
    return tuple(_wrapped)


def _look_when_started() -> None:
    """Servers run no system checks, so the node does beside its start."""
    runtime().accompany("look at names", _log_errors)


async def _log_errors(node: Node) -> None:
    try:
        found = await asyncio.to_thread(checks.run_checks, tags=["realtime"])
    except Exception:  # the project's URLs cannot be imported: its requests say so, and clients are served all the same
        logger.exception("check_broken")
        return
    for each in found:
        if each.is_serious(checks.ERROR) and not each.is_silenced():
            logger.error("check_failed id=%s problem=%r hint=%r", each.id, each.msg, each.hint)


class _RealtimeApplication:
    def __init__(self, inner: Application) -> None:
        self._inner = inner
        self._socketio = SocketIOServer()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        settings = runtime().settings
        path = _without(settings.path_prefix, scope["path"])
        is_socketio = path in SOCKETIO_PATHS and settings.socketio_is_on
        if scope["type"] != "websocket":
            mark_own_machine(scope)
            await (self._socketio if is_socketio else self._inner)(scope, receive, send)
            return
        daphne_hooks.mark(scope, send)
        uvicorn_hooks.mark(scope, send)
        if is_socketio:
            await self._socketio(scope, receive, send)
        elif path in WEBSOCKET_PATHS:
            await RealtimeConsumer()(scope, receive, send)
        elif path in _other_paths:
            await _other_paths[path](scope, receive, send)
        else:
            await self._other_websocket(scope, receive, send)

    async def _other_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._inner(scope, receive, send)
        except ValueError as error:
            if not str(error).startswith(_NO_ROUTE):
                raise
            logger.info("websocket_refused path=%r reason=%r", scope["path"], "no route")
            runtime().instrument.connection_refused("path")
            await send_denial(scope, send, 404, [])


def _without(prefix: str, path: str) -> str:
    """What of a path is ours to read; empty where it does not begin with the prefix."""
    return path[len(prefix) :] if path.startswith(prefix) else ""


async def _lifespan(receive: Receive, send: Send) -> None:
    """Start and stop the node with a server that has lifespan (uvicorn, hypercorn)."""
    process = runtime()
    hooks: uvicorn_hooks.UvicornHooks | None = None
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            daphne_hooks.raise_open_files()
            _look_when_started()
            await process.start()
            hooks = uvicorn_hooks.UvicornHooks.behind(receive, process)
            if hooks is not None:
                hooks.install()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            if hooks is None or not hooks.is_drained:
                process.begin_drain()
                await asyncio.sleep(process.settings.drain_wait_seconds)
                await process.close_connections()
            await process.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
