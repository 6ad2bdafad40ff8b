"""A Socket.IO client as a connection: its events are our commands, our replies its acknowledgements."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from realtime.auth import Identity
from realtime.connection import UNANSWERED_MAX, Connection
from realtime.exceptions import BackplaneUnavailable
from realtime.handlers import HANDLERS
from realtime.handlers.identify import identify
from realtime.node import Node
from realtime.protocol import socketio
from realtime.protocol.closing import POLICY_VIOLATION, TOO_BIG, CloseCode
from realtime.protocol.errors import CommandRefused, InternalError, TooLarge, Unauthorized, Unavailable
from realtime.protocol.frames import BinaryMessage, FrameBatch
from realtime.protocol.messages import Missed, Outbound, Ref, Reply
from realtime.protocol.names import MAIN_NAMESPACE, room_in_namespace, split_room
from realtime.protocol.socketio import BadPacket, Packet
from realtime.socketio import builtin
from realtime.socketio.client import Client
from realtime.socketio.events import ConnectionRefused, Handler, Registry, call
from realtime.socketio.refs import Asked
from realtime.socketio.session import Session

logger = logging.getLogger("realtime.socketio")

TRANSPORT = "socketio"
ALL = ""
"""The room without a name: everybody in a namespace."""


class SocketIOConnection(Connection):
    """The client behind a session. It hears broadcasts once it is connected to ``/``."""

    __slots__ = (
        "_has_skipped",
        "_on_connected",
        "_on_ended",
        "_partial",
        "_registry",
        "_session",
        "active_before",
        "namespaces",
    )

    def __init__(
        self,
        node: Node,
        session: Session,
        identity: Identity,
        registry: Registry,
        *,
        address: str,
        on_connected: Callable[[], None],
        on_ended: Callable[[SocketIOConnection, int], None],
    ) -> None:
        super().__init__(
            node,
            session.writer,
            HANDLERS,
            identity=identity,
            transport=TRANSPORT,
            address=address,
            source=session.source,
        )
        self.namespaces: dict[str, Client] = {}
        """Those that the client is connected to."""
        self.active_before = self.last_active
        """When the client last sent something before the message that is being handled."""
        self._session = session
        self._registry = registry
        self._partial: Packet | None = None  # waits for its attachments
        self._has_skipped = False  # attachments belong to something that was not read
        self._on_connected = on_connected
        self._on_ended = on_ended

    @property
    def is_listening(self) -> bool:
        """Broadcasts and private messages are for clients of ``/``."""
        return MAIN_NAMESPACE in self.namespaces

    # -- from the client ---------------------------------------------------------------------------------------------

    async def receive(self, message: bytes) -> None:
        """A message of the session. Never raises for what a client sent."""
        self.active_before, self.last_active = self.last_active, self.node.clock()
        begun = self.last_active
        self.messages_in += 1
        self.bytes_in += len(message)
        try:
            packet = self._completed(message) if self._may_read(message, begun) else None
            if packet is not None:
                await self._handle_packet(packet)
        except BadPacket as error:
            logger.info("socketio_bad_packet connection=%s error=%r", self.id, str(error))
            self.evict(POLICY_VIOLATION)
        self.node.instrument.command_handled(self.node.clock() - begun, len(message))
        if self._unanswered > UNANSWERED_MAX:
            await self._relieved()

    def _may_read(self, message: bytes, now: float) -> bool:
        """Whether the rate allows to read it. What is skipped takes the rest of its packet with it."""
        if not self._rates.take(self, now):
            self._has_skipped, self._partial = True, None
            self.limited(now)
        elif not isinstance(message, BinaryMessage):
            self._has_skipped = False
        return not self._has_skipped

    def _completed(self, message: bytes) -> Packet | None:
        """The packet that this message completes. Raises BadPacket."""
        if isinstance(message, BinaryMessage):
            if self._partial is None:
                raise BadPacket("an attachment of nothing")
            packet = self._partial.with_attachment(message)
        elif self._partial is not None:
            raise BadPacket("an attachment is missing")
        else:
            packet = socketio.decode_packet(message)
        self._partial = None if packet.is_complete else packet
        if packet.size > self.node.settings.message_max_bytes:
            self.evict(TOO_BIG)
            self._partial = None
            return None
        return packet if packet.is_complete else None

    async def _handle_packet(self, packet: Packet) -> None:
        if packet.kind == socketio.CONNECT:
            if packet.namespace in self.namespaces:
                raise BadPacket("connected to this namespace already")
            await self._connect(packet)
        elif packet.namespace not in self.namespaces:
            if not self.namespaces:
                raise BadPacket("not connected to any namespace")
            # It was sent before the client heard that it is no longer connected.
            self.node.instrument.command_refused("not_connected")
        elif packet.kind == socketio.DISCONNECT:
            await self.leave_namespace(packet.namespace)
        elif packet.kind in (socketio.EVENT, socketio.BINARY_EVENT):
            await self._answer_event(packet)

    async def _answer_event(self, packet: Packet) -> None:
        event = socketio.event_of(packet)
        asked = Asked(event.namespace, event.ack)
        try:
            if packet.size > self.node.settings.command_max_bytes:
                raise TooLarge()
            own = self._registry.namespaces[event.namespace].events.get(event.name)
            if own is not None:
                await self._call_own(own, event, asked)
            else:
                await builtin.answer(self, event, asked)
        except CommandRefused as refusal:
            self.refuse(refusal, asked.ref)
        except BackplaneUnavailable:
            self.refuse(Unavailable(), asked.ref)
        except Exception:
            logger.exception("handler_failed connection=%s event=%r", self.id, event.name)
            self.node.instrument.handler_failed()
            self.refuse(InternalError(), asked.ref)

    async def _call_own(self, handler: Handler, event: socketio.Event, asked: Asked) -> None:
        result = await call(handler, self.namespaces[event.namespace], *event.values())
        if asked.ack is not None:
            arguments = result if isinstance(result, tuple) else ({"ok": True} if result is None else result,)
            self.emit_packets(socketio.acknowledged(event.namespace, asked.ack, arguments))

    # -- namespaces --------------------------------------------------------------------------------------------------

    async def _connect(self, packet: Packet) -> None:
        """1. is there such a namespace; 2. may the client in; 3. it is in; 4. what the project does then."""
        name, auth = packet.namespace, socketio.auth_of(packet)
        namespace = self._registry.namespaces.get(name)
        if namespace is None:
            self.emit_packets([socketio.connect_error(name, "Invalid namespace")])
            return
        client = Client(self, name)
        try:
            await self._identify(auth)
            if (pending := self.node.judge.connect(self.caller, name)) is not None:
                await pending
            for handler in namespace.connecting:
                await call(handler, client, auth)
            is_in = await self._enter_namespace(name, client)
        except ConnectionRefused as refusal:
            self.node.instrument.connection_refused("namespace")
            self.emit_packets([socketio.connect_error(name, refusal.message, refusal.data)])
        except (BackplaneUnavailable, Unavailable):
            self.emit_packets([socketio.connect_error(name, "Try again later", {"code": "unavailable"})])
        except CommandRefused as refused:
            self.node.instrument.connection_refused(refused.code)
            self.emit_packets([socketio.connect_error(name, refused.message, {"code": refused.code})])
        except Exception:
            logger.exception("handler_failed connection=%s namespace=%r", self.id, name)
            self.node.instrument.handler_failed()
            self.emit_packets([socketio.connect_error(name, "Internal error", {"code": "internal_error"})])
        else:
            if is_in:
                await self._call_all(namespace.connect, client, auth)

    async def _identify(self, auth: dict[str, Any]) -> None:
        """By the token, if there is one. Whoever is nobody then, and may not be, is refused."""
        token = auth.get("token")
        try:
            if isinstance(token, str) and token.count(".") == 2:  # what else is called a token is the project's affair
                await identify(self, token)
            elif not self.is_admitted:
                raise Unauthorized("Say who you are: a session's cookie, or `auth: {token}`.")
        except Unauthorized as error:
            raise ConnectionRefused(error.message, {"code": error.code}) from error

    async def _enter_namespace(self, name: str, client: Client) -> bool:
        """False for a client that has gone while it was asked who it is: nobody would hear of its end."""
        if name != MAIN_NAMESPACE:
            await self.node.join(self, room_in_namespace(name, ALL))
        if self._session.is_over:
            return False
        self.namespaces[name] = client
        self._on_connected()
        self.emit_packets([socketio.connected(name, self.id)])
        if name == MAIN_NAMESPACE:
            self.node.hub.listen(self)
        return True

    async def leave_namespace(self, name: str) -> None:
        """The client is no longer connected to a namespace: out of its rooms."""
        client = self.namespaces.pop(name, None)
        if client is None:
            return
        if name == MAIN_NAMESPACE:
            self.node.hub.deafen(self)
        for room in [each for each in self.rooms if split_room(each)[0] == name]:
            self.node.leave(self, room)
        await self._call_all(self._registry.namespaces[name].disconnect, client)

    async def _call_all(self, handlers: Sequence[Handler], client: Client, *arguments: Any) -> None:
        for handler in handlers:
            try:
                await call(handler, client, *arguments)
            except Exception:
                logger.exception("handler_failed connection=%s namespace=%r", self.id, client.namespace)
                self.node.instrument.handler_failed()

    # -- to the client -----------------------------------------------------------------------------------------------

    def emit(self, namespace: str, event: str, arguments: Sequence[Any]) -> None:
        """Send an event, if the client is connected to the namespace."""
        if namespace in self.namespaces:
            self.emit_packets(socketio.emitted(namespace, event, arguments))

    def emit_packets(self, packets: list[bytes]) -> None:
        """Send packets to this client alone."""
        self.node.instrument.messages_sent(len(packets), sum(map(len, packets)))
        self._session.writer.send(packets)

    def send(self, message: Outbound) -> None:
        """A reply is an acknowledgement, if the client wants one; anything else is an event of its type."""
        fields: dict[str, Any] = msgspec.to_builtins(message)
        kind = fields.pop("type")
        if "room" in fields:
            fields["room"] = split_room(fields["room"])[1]
        if not isinstance(message, Reply):
            self.emit(MAIN_NAMESPACE, kind, [fields])
            return
        self.acknowledge_with(Asked.of(fields.pop("ref", None)), fields)

    def acknowledge_with(self, asked: Asked, fields: dict[str, Any]) -> None:
        """Acknowledge an event with some fields, if the client wants that."""
        if asked.ack is not None:
            self.emit_packets(socketio.acknowledged(asked.namespace, asked.ack, [{"ok": True, **fields}]))

    def refuse(self, refusal: CommandRefused, ref: Ref | None) -> None:
        """The acknowledgement says why; without one the event ``error`` does."""
        self.node.instrument.command_refused(refusal.code)
        asked = Asked.of(ref)
        why: dict[str, Any] = {"code": refusal.code, "message": refusal.message}
        if refusal.retry_after is not None:
            why["retry_after"] = refusal.retry_after
        if asked.ack is None:
            self.emit(asked.namespace, "error", [why])
        else:
            self.emit_packets(socketio.acknowledged(asked.namespace, asked.ack, [{"ok": False, **why}]))

    def notify(self, batch: FrameBatch) -> None:
        """``missed``, in each namespace that it concerns; anything else as all the others get it."""
        missed = batch.sources[0] if batch.sources else None
        if not isinstance(missed, Missed):
            self.writer.write(batch)
            return
        rooms = [split_room(room) for room in missed.rooms or ()]
        for namespace in self.namespaces:
            own = [room for where, room in rooms if where == namespace]
            if missed.rooms is None or own:
                everything = missed.rooms is None or ALL in own
                self.emit(namespace, "missed", [{"rooms": None if everything else own}])

    # -- the end -----------------------------------------------------------------------------------------------------

    def evict(self, close: CloseCode) -> None:
        """The server ends this connection. Where a client should not come back it is disconnected in words, too."""
        if self.close_sent is None and not close.should_reconnect:
            self.emit_packets([socketio.disconnected(name) for name in self.namespaces])
        super().evict(close)

    async def session_opened(self) -> None:
        """The client is one of the node's connections."""
        await self.node.add(self)

    def pong_came(self, *, is_asked: bool) -> None:
        """The only sign of life of a client that listens; what ``ping`` is in the plain protocol.

        One that nobody asked for counts as a message: there could be any number of them.
        """
        now = self.node.clock()
        if not is_asked and not self._rates.take(self, now):
            self.limited(now)
        elif self.node.settings.ping_is_activity:
            self.touch()

    def session_ended(self, code: int) -> None:
        """The session is over."""
        self._on_ended(self, code)
        self._partial = None
        names, self.namespaces = self.namespaces, {}
        for name, client in names.items():
            handlers = self._registry.namespaces[name].disconnect
            if handlers:
                self.node.tasks.start(f"disconnect {self.id}", self._call_all(handlers, client))
