"""One client, whatever its transport: decode, handle, reply, push."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from realtime.exceptions import BackplaneUnavailable
from realtime.hub import Member
from realtime.identity import ANONYMOUS, Identity, LiveSession
from realtime.permissions import Caller
from realtime.protocol import codec
from realtime.protocol.closing import POLICY_VIOLATION, TOO_BIG, CloseCode
from realtime.protocol.envelope import ConnectionInfo
from realtime.protocol.errors import (
    BadMessage,
    CommandRefused,
    InternalError,
    RateLimited,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from realtime.protocol.messages import (
    Ack,
    Authenticate,
    Command,
    ConnectionLimits,
    Outbound,
    OwnReply,
    Ping,
    Ref,
    Welcome,
)
from realtime.rates import CommandRates, Rate, Source, rounded_up
from realtime.server.writer import FrameWriter
from realtime.throttle import RATE

if TYPE_CHECKING:
    from realtime.handlers import Handler
    from realtime.node import Node, Published

logger = logging.getLogger("realtime.connection")

UNANSWERED_MAX = 1_024
"""A client with more publications that the backplane, or the recipient's node, has not answered yet is not read until
half are answered."""

NOTHING_MORE = CommandRates(Rate(1, 1), Rate(0, 1), Rate(0, 1))
"""The rates of a connection that is closed because it went on: its bucket is never full again."""


BEFORE_IDENTITY = frozenset({Authenticate, Ping})
"""What a client may do that must say who it is, and has not."""


class Connection(Member):
    """A member of the hub with a client behind it.

    ``handle`` is called with one command at a time; replies leave in the order in which their commands are answered,
    and an answer that waits for the backplane does not hold up the next command.
    """

    __slots__ = (
        "_broadcasts_full_at",
        "_caller",
        "_handlers",
        "_is_told_held_back",
        "_joins_full_at",
        "_rates",
        "_refusals_full_at",
        "_relief",
        "_unanswered",
        "address",
        "bytes_in",
        "close_sent",
        "commands_full_at",
        "messages_in",
        "node",
        "opened_at",
        "rooms_at_end",
        "source",
        "told_mark",
        "transport",
    )

    def __init__(
        self,
        node: Node,
        writer: FrameWriter,
        handlers: Mapping[type[Command], Handler],
        *,
        identity: Identity = ANONYMOUS,
        transport: str = "websocket",
        address: str = "",
        source: Source | None = None,
    ) -> None:
        super().__init__(f"{node.id}.{secrets.token_urlsafe(16)}", identity.user, writer)
        self.node = node
        self.identity = identity
        self.is_admitted = identity.user is not None or node.settings.anonymous_is_allowed
        self.transport = transport
        self.address = address
        """Where the client is, as far as proxies are believed."""
        self.opened_at = time.time()
        self.touch()
        self.messages_in = 0
        self.bytes_in = 0
        self.close_sent: CloseCode | None = None
        """Why the server ended it, if it did."""
        self.rooms_at_end = 0
        """How many rooms it was in when it ended."""
        self.told_mark = 0
        """``progress_mark`` when the tracker was last told what this connection did."""
        self._caller: tuple[Identity, Caller] | None = None
        self.source = source or Source("")
        """What all connections from its address have spent."""
        self.commands_full_at = self._joins_full_at = self._broadcasts_full_at = self._refusals_full_at = 0.0
        self._rates = node.throttle.commands
        self._handlers = handlers
        self._unanswered = 0
        self._is_told_held_back = False
        self._relief: asyncio.Future[None] | None = None

    @property
    def caller(self) -> Caller:
        """Who asks, for the node's judge: made again when the identity is another one."""
        known, identity = self._caller, self.identity
        if known is None or known[0] is not identity:
            caller = self.node.judge.caller(identity.user, identity.label, self.id, self.address, self.transport)
            self._caller = known = (identity, caller)
        return known[1]

    @property
    def is_listening(self) -> bool:
        """Nobody hears broadcasts before it has said who it is, where it must."""
        return self.is_admitted

    def identified(self, identity: Identity) -> None:
        """The client has said who it is, or has said it again."""
        self.identity = identity
        if not self.is_admitted:
            self.is_admitted = True
            if self.is_listening:
                self.node.hub.listen(self)
        self.node.expiry.watch(self)

    def session_moved(self, tag: str) -> None:
        """The Django session goes on under a key that only its tag is known of."""
        self.identity = dataclasses.replace(self.identity, session=LiveSession(tag, key=None))

    def welcome(self) -> None:
        """Tell the client who it is here: the first push."""
        self.send(self.greeting())

    def greeting(self) -> Welcome:
        """Who the client is here, and what it may do."""
        settings = self.node.settings
        limits = ConnectionLimits(
            message_max_bytes=settings.message_max_bytes,
            command_max_bytes=settings.command_max_bytes,
            rooms_max=settings.rooms_per_connection_max,
            idle_timeout_seconds=settings.idle_timeout_seconds,
        )
        return Welcome(id=self.id, node=self.node.id, user=self.user, limits=limits)

    def touch(self) -> None:
        """The client is active."""
        self.last_active = self.node.clock()

    async def handle(self, text: bytes) -> None:
        """Answer one command. Never raises for what a client sent."""
        was_active, self.last_active = self.last_active, self.node.clock()
        begun = self.last_active
        self.messages_in += 1
        self.bytes_in += len(text)
        size = len(text)
        if not self._rates.take(self, begun):
            self.limited(begun)
        elif size > self.node.settings.command_max_bytes:
            # Servers that know the limit of a message close by themselves, before it is in memory.
            if size > self.node.settings.message_max_bytes:
                self.evict(TOO_BIG)
            else:
                self.refuse(TooLarge(), None)
        else:
            try:
                command = codec.decode_command(text)
            except codec.RefusedText as refused:
                self.refuse(refused.refusal, refused.ref)
            else:
                if type(command) is Ping and not self.node.settings.ping_is_activity:
                    self.last_active = was_active
                await self._answer(command)
        self.node.instrument.command_handled(self.node.clock() - begun, size)
        if self._unanswered > UNANSWERED_MAX:
            await self._relieved()

    async def _relieved(self) -> None:
        self._relief = asyncio.get_running_loop().create_future()
        await self._relief

    def handle_binary(self) -> None:
        """Answer a binary message."""
        self.touch()
        if self._rates.take(self, self.last_active):
            self.refuse(BadMessage("Commands are text messages, not binary ones."), None)
        else:
            self.limited(self.last_active)

    def limited(self, now: float) -> None:
        """A message came over the rate, which nobody reads: the client is told, or closed when it goes on."""
        limit, wait = self._rates.refusal(self, now)
        if not self._goes_on(limit, now):
            self.refuse(RateLimited(retry_after=rounded_up(wait)), None)

    def spend_join(self) -> None:
        """One more join. Raises RateLimited."""
        self._joins_full_at = self._spent("joins", self.node.throttle.joins, self._joins_full_at)

    def spend_broadcast(self) -> None:
        """One more broadcast. Raises RateLimited."""
        self._broadcasts_full_at = self._spent("broadcasts", self.node.throttle.broadcasts, self._broadcasts_full_at)

    def _spent(self, limit: str, rate: Rate, full_at: float) -> float:
        now = self.node.clock()
        wait = rate.wait(full_at, now)
        if wait:
            self._goes_on(limit, now)
            raise RateLimited(retry_after=rounded_up(wait))
        return rate.take(full_at, now)

    def _goes_on(self, limit: str, now: float) -> bool:
        """A command was refused by a rate; whether the connection is closed, because so many were."""
        throttle = self.node.throttle
        if self.close_sent is not None:
            return True  # what was under way when it was closed
        throttle.limited(limit, self.id)
        if throttle.refusals.wait(self._refusals_full_at, now):
            self._rates, self.commands_full_at = NOTHING_MORE, math.inf  # whatever waits to be handled is not
            self.evict(POLICY_VIOLATION)
            throttle.closed(RATE, self.id)
            return True
        self._refusals_full_at = throttle.refusals.take(self._refusals_full_at, now)
        return False

    def held_back(self) -> None:
        """The client is not read for a while. The log says so once for each connection: it may happen often."""
        self.node.instrument.client_held_back()
        if not self._is_told_held_back:
            self._is_told_held_back = True
            logger.info("client_held_back id=%s user=%s messages_in=%d", self.id, self.user, self.messages_in)

    def refuse(self, refusal: CommandRefused, ref: Ref | None) -> None:
        """Answer a command with an error; the connection lives on."""
        self.node.instrument.command_refused(refusal.code)
        self._write(codec.encode_error(refusal, ref))

    def send(self, message: Outbound) -> None:
        """A reply or a push for this connection alone."""
        self._write(codec.encode(message))

    def answer_own(self, reply: OwnReply) -> None:
        """The reply to a command of the project."""
        self._write(codec.encode(reply))

    def acknowledge(self, published: Published, ref: Ref | None) -> None:
        """Answer with ``ack`` once the backplane took it (only with a ``ref``), else with ``unavailable``."""

        def answer(done: Published) -> None:
            self.answered()
            if done.cancelled() or done.exception() is not None:
                self.refuse(Unavailable(), ref)
            elif ref is not None:
                self.send(Ack(ref=ref))

        self.answer_later()
        if published.done():
            answer(published)
        else:
            published.add_done_callback(answer)

    def answer_later(self) -> None:
        """One more command waits for its answer; with too many of them the client is not read."""
        self._unanswered += 1

    def answered(self) -> None:
        """One of them waits no more."""
        self._unanswered -= 1
        if self._relief is not None and not self._relief.done() and self._unanswered * 2 <= UNANSWERED_MAX:
            self._relief.set_result(None)

    def evict(self, close: CloseCode) -> None:
        """The server ends this connection; it leaves the hub at once, so that nothing more is delivered to it."""
        if self.close_sent is None:
            self.close_sent = close
            self.writer.close(close)
            self.ended()

    def listed(self, node_id: str, now: float) -> ConnectionInfo:
        """With what the connection counts."""
        return msgspec.structs.replace(
            super().listed(node_id, now),
            transport=self.transport,
            opened=self.opened_at,
            idle=max(now - self.last_active, 0.0),
            messages_in=self.messages_in,
            messages_out=self.writer.messages_out,
            bytes_in=self.bytes_in,
            bytes_out=self.writer.bytes_out,
        )

    def ended(self) -> None:
        """The connection is over: nothing more is delivered to it. Safe to call twice."""
        self.rooms_at_end = self.rooms_at_end or len(self.rooms)
        self.node.remove(self)

    def progress_mark(self) -> int:
        """A number that is another one after the connection did anything that its row shows."""
        return hash((self.last_active, self.messages_in, self.writer.messages_out, len(self.rooms)))

    async def _answer(self, command: Command) -> None:
        try:
            if not self.is_admitted and type(command) not in BEFORE_IDENTITY:
                raise Unauthorized("Say who you are first: `authenticate`.")
            reply = await self._handlers[type(command)](self, command)
        except CommandRefused as refusal:
            self.refuse(refusal, command.ref)
        except BackplaneUnavailable:
            self.refuse(Unavailable(), command.ref)
        except Exception:
            logger.exception("handler_failed connection=%s command=%s", self.id, type(command).__name__)
            self.node.instrument.handler_failed()
            self.refuse(InternalError(), command.ref)
        else:
            if reply is not None:
                self.send(reply)

    def _write(self, text: bytes) -> None:
        self.node.instrument.messages_sent(1, len(text))
        self.writer.write_text(text)
