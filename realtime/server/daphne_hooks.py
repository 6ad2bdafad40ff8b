"""Everything that plain ``daphne config.asgi:application`` leaves to its command line or does not do at all.

Daphne has no lifespan. Its command line imports the application before it builds its server, so that what is installed
at import time is in place when the reactor runs. ``verify`` looks before anything private is touched.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from realtime.conf import Settings
from realtime.limits import BacklogLimit
from realtime.server.daphne_walks import in_parts, is_walk
from realtime.server.frame_limits import FrameLimits
from realtime.server.lifecycle import Address, Lifecycle, reachable
from realtime.server.socket import ClientSocket, Scope, Send

logger = logging.getLogger("realtime.server")

EXIT_FORCED = 1
LOOK_SECONDS = 2.0
"""How often daphne looks whether a ping is due: pinged at the look before, nobody waits longer than the interval."""


def is_daphne_running_us() -> bool:
    """Whether this process is a daphne server (its command line, or Django's ``runserver`` with daphne)."""
    return "daphne.server" in sys.modules


def verify() -> str | None:
    """What is not as expected in daphne, autobahn or Twisted; None when the direct path may be used."""
    try:
        from autobahn.websocket.protocol import WebSocketProtocol as Autobahn
        from daphne.server import Server
        from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
        from twisted.internet import abstract, tcp
        from twisted.web import http
    except ImportError as error:
        return str(error)
    wanted: list[tuple[Any, str]] = [
        (Autobahn, "STATE_OPEN"),
        (Autobahn, "sendCloseFrame"),
        (Autobahn, "sendData"),
        (Autobahn, "_sendAutoPing"),
        (Autobahn, "onCloseHandshakeTimeout"),
        (Autobahn, "CONFIG_ATTRS_COMMON"),
        (sys.modules[Autobahn.__module__], "pformat"),
        (Autobahn, "_fail_connection"),
        (Autobahn, "consumeData"),
        (Autobahn, "processData"),
        (Autobahn, "_max_message_size_exceeded"),
        (WebSocketProtocol, "sendHttpErrorResponse"),
        (WebSocketProtocol, "handle_reply"),
        (WebSocketProtocol, "serverSend"),
        (WebSocketFactory, "protocol"),
        (Server, "application_checker"),
        (Server, "kill_all_applications"),
        (Server, "timeout_checker"),
        (Server, "create_application"),
        (Server, "handle_reply"),
        (abstract.FileDescriptor, "dataBuffer"),
        (abstract.FileDescriptor, "offset"),
        (tcp.Server, "abortConnection"),
        (http, "_GenericHTTPChannelProtocol"),
        *((http.HTTPChannel, name) for name in _CHANNEL_NAMES),
    ]
    for owner, name in wanted:
        if not hasattr(owner, name):
            return f"{owner.__module__}.{owner.__qualname__} has no {name}"
    for walk in (Server.application_checker, Server.timeout_checker):
        if not is_walk(walk):
            return f"daphne.server.Server.{walk.__name__} does not walk over its connections"
    if "_tempDataLen" not in abstract.FileDescriptor.__init__.__code__.co_names:
        return "twisted.internet.abstract.FileDescriptor does not set _tempDataLen"
    return None


_CHANNEL_NAMES = (
    "MAX_LENGTH",
    "_receivedHeaderCount",
    "_receivedHeaderSize",
    "_respondToBadRequestAndDisconnect",
    "_savedTimeOut",
    "allContentReceived",
    "allHeadersReceived",
    "lineLengthExceeded",
    "rawDataReceived",
    "requestDone",
    "resetTimeout",
    "setTimeout",
    "timeoutConnection",
    "totalHeadersSize",
)


def client_socket(scope: Scope, send: Send, limit: BacklogLimit, inbox_max_bytes: int) -> ClientSocket | None:
    """The direct socket behind an ASGI ``send`` of daphne; None when there is none."""
    protocol = scope.get("realtime.protocol")
    if protocol is None:
        return None
    from realtime.server.daphne_socket import DaphneSocket

    return DaphneSocket(protocol, scope, send, limit, inbox_max_bytes)


def mark(scope: Scope, send: Send) -> None:
    """Called before any middleware wraps ``send``: remember the protocol behind it, and what it can do."""
    if isinstance(send, functools.partial) and send.args and hasattr(send.args[0], "client_socket"):
        scope["realtime.protocol"] = send.args[0]
        # daphne says it of HTTP requests only.
        scope.setdefault("scheme", "wss" if is_tls(send.args[0].transport) else "ws")
        scope["extensions"] = {**(scope.get("extensions") or {}), "websocket.http.response": {}}


def is_tls(transport: object) -> bool:
    """Whether TLS ends here."""
    from twisted.internet.interfaces import ISSLTransport

    return bool(ISSLTransport.providedBy(transport))


class DaphneHooks:
    """Starts, tunes and stops daphne for one node."""

    def __init__(self, lifecycle: Lifecycle, on_running: Callable[[], None] = lambda: None) -> None:
        self._lifecycle = lifecycle
        self._on_running = on_running
        self._ports: list[Any] = []
        self._servers: list[Any] = []
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Call while the application is imported."""
        problem = verify()
        if problem is not None:
            logger.warning("daphne_unexpected problem=%r effect=%r", problem, "clients are served by plain ASGI send")
        else:
            from autobahn.websocket import protocol
            from daphne.server import Server
            from daphne.ws_protocol import WebSocketFactory

            from realtime.server.daphne_protocol import RealtimeProtocol

            WebSocketFactory.protocol = RealtimeProtocol
            # For each connection autobahn formats its 40 options, for a debug line that is printed nowhere (135 us).
            setattr(protocol, "pformat", _no_dump)  # noqa: B010  mypy: autobahn does not export what it imports
            Server.application_checker = in_parts(Server.application_checker, _later)
            Server.timeout_checker = in_parts(Server.timeout_checker, _later)
            Server.kill_all_applications = _kill_all_applications
            Server.create_application = _create_application
        _reactor().callWhenRunning(self._running)

    def _running(self) -> None:
        """The reactor runs and the ports are open: 1. tune; 2. take the signals over; 3. start the node."""
        settings = self._lifecycle.settings
        raise_open_files()
        self._find_ports()
        for port in self._ports:
            port.socket.listen(settings.listen_backlog)
        for server in self._servers:
            tune(server, settings)
            self._bound_requests(server)
        self._lifecycle.find_address = self._find_address
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_signal)
            signal.signal(signal.SIGINT, self._on_signal)
        self._on_running()
        self._task = asyncio.get_event_loop().create_task(self._lifecycle.start(), name="start node")

    def _find_ports(self) -> None:
        from twisted.internet import tcp

        for reader in _reactor().getReaders():
            if not isinstance(reader, tcp.Port):
                continue
            factory = getattr(reader.factory, "wrappedFactory", reader.factory)
            server = getattr(factory, "server", None)
            if server is not None and hasattr(server, "ws_factory"):
                self._ports.append(reader)
                if server not in self._servers:
                    self._servers.append(server)

    def _bound_requests(self, server: Any) -> None:
        """What a client may cost before it is one, and a WebSocket besides its messages."""
        if verify() is not None:
            return
        from realtime.server.daphne_http import BoundedChannel, bounded_channel
        from realtime.server.daphne_protocol import RealtimeProtocol

        settings = self._lifecycle.settings
        BoundedChannel.head_seconds = server.http_factory.timeOut = settings.handshake_seconds
        BoundedChannel.totalHeadersSize = BoundedChannel.MAX_LENGTH = settings.head_max_bytes
        BoundedChannel.body_seconds = settings.body_seconds
        BoundedChannel.body_max_bytes = settings.body_max_bytes
        BoundedChannel.on_cut = staticmethod(self._lifecycle.request_cut)
        server.http_factory.protocol = bounded_channel
        RealtimeProtocol.frame_limits = FrameLimits.of(settings)
        RealtimeProtocol.on_misuse = staticmethod(self._lifecycle.misused)

    def _find_address(self) -> Address | None:
        for port in self._ports:
            if not port.connected:  # the node ends: it listens no more, and has no address
                continue
            address = port.getHost()
            is_plain = not hasattr(port.factory, "wrappedFactory")
            if is_plain and hasattr(address, "port"):
                return reachable(address.host, address.port)
        return None

    # -- stopping ----------------------------------------------------------------------------------------------------

    def _on_signal(self, number: int, frame: object) -> None:
        """The first signal drains, the second exits at once."""
        if self._is_stopping:
            os._exit(128 + number)
        self._is_stopping = True
        _reactor().callFromThread(self._begin_stop, signal.Signals(number).name)

    def _begin_stop(self, cause: str) -> None:
        logger.info("stopping cause=%s", cause)
        deadline = threading.Timer(self._lifecycle.settings.drain_deadline_seconds, os._exit, (EXIT_FORCED,))
        deadline.daemon = True
        deadline.start()
        self._task = asyncio.get_event_loop().create_task(self._stop(), name="stop server")

    async def _stop(self) -> None:
        """1. readiness turns red; 2. the balancer gets time to notice; 3. no new connections; 4. clients are closed in
        batches; 5. node and rows; 6. the reactor ends. The deadline's timer stands behind all of it."""
        try:
            self._lifecycle.begin_drain()
            await asyncio.sleep(self._lifecycle.settings.drain_wait_seconds)
            for port in self._ports:
                port.stopListening()
            await self._lifecycle.close_connections()
            await self._lifecycle.stop()
        except Exception:
            logger.exception("stop_failed")
        finally:
            _reactor().stop()


def tune(server: Any, settings: Settings) -> None:
    """Give a daphne server our settings, except where its own command line says otherwise."""
    if not _has_flag("--websocket_timeout"):
        server.websocket_timeout = -1
    if not _has_flag("--ping-interval"):
        server.ping_interval = max(0.0, settings.ping_interval_seconds - LOOK_SECONDS)
    options: dict[str, Any] = {"failByDrop": False, "closeHandshakeTimeout": 2, "allowNullOrigin": True}
    if not _has_flag("--ping-timeout"):
        options["autoPingTimeout"] = settings.ping_timeout_seconds
    if not _has_flag("--websocket-max-message-size"):
        options["maxMessagePayloadSize"] = settings.message_max_bytes
    if not _has_flag("--websocket-max-frame-size"):
        options["maxFramePayloadSize"] = settings.message_max_bytes
    server.ws_factory.setProtocolOptions(**options)
    if server.proxy_forwarded_address_header:
        # It believes everybody, and the first address of the list, which is the client's own invention.
        logger.warning("daphne_proxy_headers_ignored hint=%r", "TRUSTED_PROXIES has the proxies that are believed")
        server.proxy_forwarded_address_header = None
    _share_options(server.ws_factory)


def _no_dump(options: object) -> str:
    return ""


def _share_options(factory: Any) -> None:
    """Put a factory's options on its protocol's class: autobahn copies the 40 of them into each protocol otherwise."""
    for name in factory.protocol.CONFIG_ATTRS:
        option = getattr(factory, name)
        # A function on a class would become a method: ``perMessageCompressionAccept`` is one.
        setattr(factory.protocol, name, staticmethod(option) if callable(option) else option)


def raise_open_files() -> None:
    """Raise the soft limit of open files to the hard one: each client is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _reactor() -> Any:
    """Twisted's stubs do not know that the module is an object; importing it installs one, so not before."""
    from twisted.internet import reactor

    return reactor


def _later(seconds: float, call: Callable[..., None], *arguments: Any) -> None:
    _reactor().callLater(seconds, call, *arguments)


def _has_flag(flag: str) -> bool:
    return any(argument == flag or argument.startswith(f"{flag}=") for argument in sys.argv[1:])


def _kill_all_applications(self: Any) -> Any:
    """Daphne's own raises KeyError when a connection has no application yet, and then nothing is awaited."""
    from twisted.internet import defer

    running = [
        details["application_instance"]
        for details in self.connections.values()
        if "application_instance" in details and not details["application_instance"].done()
    ]
    for application in running:
        application.cancel()
    ended = defer.Deferred.fromFuture(asyncio.gather(*running, return_exceptions=True))
    ended.addErrback(lambda failure: None)
    return ended


def _create_application(self: Any, protocol: Any, scope: Scope) -> Any:
    """Daphne's own gives each connection an ``asyncio.Queue``, 3.5 KB of which nearly all stays empty."""
    from realtime.server.daphne_queue import AsgiQueue

    if protocol not in self.connections:
        return None
    queue = AsgiQueue()
    scope.setdefault("asgi", {"version": "3.0"})
    application = self.application(scope=scope, receive=queue.get, send=functools.partial(self.handle_reply, protocol))
    self.connections[protocol]["application_instance"] = asyncio.get_event_loop().create_task(application)
    return queue
