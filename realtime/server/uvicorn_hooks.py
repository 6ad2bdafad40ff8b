"""Everything that ``uvicorn config.asgi:application`` leaves to its command line or does in another order.

uvicorn starts the application's lifespan before it listens, and the lifespan's ``receive`` belongs to an object that
knows the configuration: what is set there is in place for the first client. ``verify`` looks before anything private
is touched.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
import socket
from typing import TYPE_CHECKING, Any

from realtime.conf import Settings
from realtime.limits import BacklogLimit
from realtime.server.frame_limits import FrameLimits
from realtime.server.lifecycle import Address, Lifecycle, reachable
from realtime.server.socket import ClientSocket, Receive, Scope, Send
from realtime.server.stop_signals import StopSignals

if TYPE_CHECKING:
    from uvicorn import Config, Server

logger = logging.getLogger("realtime.server")

PROTOCOL_KEY = "realtime.uvicorn_protocol"


def verify() -> str | None:
    """What is not as expected in uvicorn or ``websockets``; None when the direct path may be used."""
    try:
        from uvicorn import Config, Server
        from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
        from websockets.frames import Close, Frame
        from websockets.protocol import Protocol
        from websockets.streams import StreamReader
    except ImportError as error:
        return str(error)
    wanted: list[tuple[Any, str]] = [
        *((WebSocketsSansIOProtocol, name) for name in _PROTOCOL_METHODS),
        *(
            (Protocol, name)
            for name in ("data_to_send", "receive_data", "send_binary", "send_close", "send_text", "state")
        ),
        *((Server, name) for name in ("shutdown", "handle_exit")),
        (Close, "serialize"),
        (Frame, "serialize"),
        (StreamReader, "at_eof"),
        (StreamReader, "read_exact"),
    ]
    for owner, name in wanted:
        if not hasattr(owner, name):
            return f"{owner.__module__}.{owner.__qualname__} has no {name}"
    attributes: list[tuple[Any, tuple[str, ...]]] = [
        (WebSocketsSansIOProtocol, _PROTOCOL_ATTRIBUTES),
        (Protocol, _PARSER_ATTRIBUTES),
        (StreamReader, ("buffer",)),
        (Config, tuple(_defaults())),
    ]
    for owner, names in attributes:
        missing = set(names).difference(owner.__init__.__code__.co_names)
        if missing:
            return f"{owner.__module__}.{owner.__qualname__} does not set {', '.join(sorted(missing))}"
    if "n" not in StreamReader.read_exact.__code__.co_varnames:
        return "websockets.streams.StreamReader.read_exact does not take n"
    return None


_PROTOCOL_METHODS = (
    "connection_lost",
    "data_received",
    "handle_close",
    "handle_cont",
    "handle_parser_exception",
    "handle_ping",
    "handle_pong",
    "keepalive_timeout",
    "run_asgi",
    "send",
    "send_receive_event_to_app",
    "shutdown",
)
_PARSER_ATTRIBUTES = (
    "close_rcvd",
    "close_rcvd_then_sent",
    "close_sent",
    "current_size",
    "parser",
    "parser_exc",
    "reader",
)
_PROTOCOL_ATTRIBUTES = (
    "app",
    "close_sent",
    "close_timer",
    "config",
    "conn",
    "curr_msg_data_type",
    "disconnected",
    "frames",
    "handshake_complete",
    "initial_response",
    "loop",
    "queue",
    "transport",
)


def mark(scope: Scope, send: Send) -> None:
    """Called before any middleware wraps ``send``: remember the protocol behind it."""
    protocol = getattr(send, "__self__", None)
    if hasattr(protocol, "client_socket"):
        scope[PROTOCOL_KEY] = protocol


def client_socket(scope: Scope, send: Send, limit: BacklogLimit, inbox_max_bytes: int) -> ClientSocket | None:
    """The direct socket behind an ASGI ``send`` of uvicorn; None when there is none."""
    protocol = scope.pop(PROTOCOL_KEY, None)
    if protocol is None:
        return None
    from realtime.server.uvicorn_socket import UvicornSocket

    return UvicornSocket(protocol, scope, send, limit, inbox_max_bytes)


class UvicornHooks:
    """Tunes and stops uvicorn for one node. It starts the node itself, through the lifespan."""

    def __init__(self, config: Config, lifecycle: Lifecycle) -> None:
        self.is_drained = False
        """Whether the clients were closed already when the lifespan ends."""
        self._config = config
        self._lifecycle = lifecycle

    @classmethod
    def behind(cls, receive: Receive, lifecycle: Lifecycle) -> UvicornHooks | None:
        """The hooks for the server that runs this lifespan; None when it is not a uvicorn that we know."""
        lifespan = getattr(receive, "__self__", None)
        if not type(lifespan).__module__.startswith("uvicorn."):
            return None
        problem = verify() or ("the lifespan has no config" if not hasattr(lifespan, "config") else None)
        if problem is not None:
            logger.warning("uvicorn_unexpected problem=%r effect=%r", problem, "clients are served by plain ASGI send")
            return None
        return cls(lifespan.config, lifecycle)  # type: ignore[union-attr]

    def install(self) -> None:
        """Call in the lifespan's startup, when the node has started: nobody listens yet."""
        tune(self._config, self._lifecycle.settings)
        ignore_proxy_headers(self._config)
        self._bound_requests()
        self._use_protocol()
        server = self._find_server()
        if server is None:
            logger.warning(
                "uvicorn_server_not_found effect=%r", "it closes clients by itself when it ends, all of them at once"
            )
            return
        self._wrap_shutdown(server)
        self._lifecycle.find_address = lambda: self._find_address(server)

    def _bound_requests(self) -> None:
        from realtime.server.uvicorn_http import bounded, is_known

        own = self._config.http_protocol_class
        if is_known(own):
            cut = self._lifecycle.request_cut
            self._config.http_protocol_class = bounded(own, self._lifecycle.settings, cut)
        else:
            effect = "nothing bounds how long a request takes, or how large its head is"
            logger.warning("uvicorn_http_unknown implementation=%r effect=%r", self._config.http, effect)

    def _use_protocol(self) -> None:
        from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

        from realtime.server.uvicorn_protocol import RealtimeProtocol

        if self._config.ws_protocol_class is not WebSocketsSansIOProtocol:
            logger.warning(
                "uvicorn_websockets_unknown implementation=%r effect=%r hint=%r",
                self._config.ws,
                "clients are served by plain ASGI send",
                "--ws auto or --ws websockets-sansio, with the package websockets installed",
            )
            return
        self._config.ws_protocol_class = RealtimeProtocol
        RealtimeProtocol.frame_limits = FrameLimits.of(self._lifecycle.settings)
        RealtimeProtocol.on_misuse = staticmethod(self._lifecycle.misused)
        if self._config.ws_per_message_deflate:
            logger.warning(
                "compression_is_on effect=%r hint=%r",
                "messages are compressed for each client that asks for it, which costs many times the CPU",
                "--ws-per-message-deflate false",
            )

    def _find_server(self) -> Server | None:
        """The server took the signals over before it started the lifespan."""
        from uvicorn import Server

        server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        return server if isinstance(server, Server) and server.config is self._config else None

    def _find_address(self, server: Server) -> Address | None:
        if self._config.is_ssl:
            return None
        for listener in server.servers:
            for each in listener.sockets:
                if each.family in (socket.AF_INET, socket.AF_INET6):
                    return reachable(*each.getsockname()[:2])
        return None

    # -- stopping ----------------------------------------------------------------------------------------------------

    def _wrap_shutdown(self, server: Server) -> None:
        """Have the drain come before uvicorn's own shutdown, which closes clients without a reason."""
        own_shutdown = server.shutdown

        async def shutdown(*args: Any, **options: Any) -> None:
            await self._drain(server)
            await own_shutdown(*args, **options)

        def stop() -> None:
            self._lifecycle.begin_drain()
            server.should_exit = True

        server.shutdown = shutdown  # type: ignore[method-assign]
        StopSignals(stop, self._lifecycle.settings.drain_deadline_seconds).install()

    async def _drain(self, server: Server) -> None:
        """1. readiness turns red; 2. the balancer gets time to notice; 3. no new connections; 4. clients are closed in
        batches. What follows is uvicorn's: running requests end, then the lifespan, which stops the node."""
        try:
            self._lifecycle.begin_drain()
            await asyncio.sleep(self._lifecycle.settings.drain_wait_seconds)
            for listener in server.servers:
                listener.close()
            await self._lifecycle.close_connections()
        except Exception:
            logger.exception("drain_failed")
        self.is_drained = True


def tune(config: Config, settings: Settings) -> None:
    """Give uvicorn our settings, except where its own command line or caller chose something else than its default."""
    ours = {
        "ws_max_size": settings.message_max_bytes,
        "ws_ping_interval": settings.ping_interval_seconds,
        "ws_ping_timeout": settings.ping_timeout_seconds,
        "backlog": settings.listen_backlog,
    }
    for name, default in _defaults().items():
        if name in ours and getattr(config, name) == default:
            setattr(config, name, ours[name])


def ignore_proxy_headers(config: Config) -> None:
    """Let the application see the peer itself: uvicorn has a list of its own of whom it believes (this machine, unless
    told otherwise), and ours is TRUSTED_PROXIES."""
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    if isinstance(config.loaded_app, ProxyHeadersMiddleware):
        config.loaded_app = config.loaded_app.app


def _defaults() -> dict[str, Any]:
    from uvicorn import Config

    wanted = ("ws_max_size", "ws_ping_interval", "ws_ping_timeout", "ws_per_message_deflate", "backlog")
    parameters = inspect.signature(Config).parameters
    return {name: parameters[name].default for name in wanted if name in parameters}
