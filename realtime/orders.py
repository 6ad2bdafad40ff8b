"""What Django code asks of this node over the backplane: lists, disconnections, removals, a drain.

Each order is answered to the channel that it names. Lists are gathered in slices with other work between them, and
leave in parts, so that neither the loop nor the backplane meets a message of megabytes. No client can get here: its
commands are other types, decoded elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import msgspec

from realtime.exceptions import BackplaneUnavailable
from realtime.instrument import UNAUTHORIZED_CAUSES
from realtime.protocol import codec
from realtime.protocol.closing import UNAUTHORIZED, BadClose, CloseCode, ordered_close
from realtime.protocol.envelope import (
    Answer,
    Disconnect,
    Drain,
    NodeInfo,
    Order,
    Question,
    Remove,
)
from realtime.protocol.frames import FrameBatch
from realtime.protocol.messages import Left
from realtime.protocol.names import NOBODY, group_of_user, user_of_recipient

if TYPE_CHECKING:
    from realtime.hub import Member
    from realtime.node import Node

logger = logging.getLogger("realtime.orders")

Entry = TypeVar("Entry")

SLICE = 2_000
"""Names looked at before other work gets its turn."""
CLOSE_SLICE = 100
"""Connections closed before other work gets its turn."""
PART = 200
"""Entries in one envelope: about 50 KB of connections."""
RUNNING_MAX = 64
"""Orders that are carried out at the same time; one more is refused."""


class Orders:
    """Carries out orders for one node. ``on_drain`` begins what SIGTERM begins."""

    def __init__(self, node: Node, on_drain: Callable[[], None]) -> None:
        self._node = node
        self._on_drain = on_drain
        self._is_drain_ordered = False
        self._running = 0
        self._guests: dict[str, list[tuple[str, asyncio.Event]]] = {}  # by user: the tag of a session, and its end

    def came(self, order: Order) -> None:
        """An order arrived; it is carried out in the background."""
        if self._running >= RUNNING_MAX:
            self._answer(order, refusal="busy")
            return
        self._running += 1
        self._node.tasks.start(f"order {order.request}", self._carry_out(order))

    async def _carry_out(self, order: Order) -> None:
        try:
            match order:
                case Question():
                    await self._tell(order)
                case Disconnect():
                    await self._disconnect(order)
                case Remove():
                    self._remove(order)
                case Drain():
                    await self._drain(order)
        finally:
            self._running -= 1

    # -- lists -------------------------------------------------------------------------------------------------------

    async def _tell(self, question: Question) -> None:
        node = self._node
        if question.about == "nodes":
            self._answer(question, total=1, nodes=[self._about_itself()])
        elif question.about == "connections":
            found = self._connections(question)
            names, total = await first_names(found, question.limit, question.after)
            now = self._node.clock()
            listed = [found[name].listed(node.id, now) for name in names if name in found]
            self._answer_in_parts(question, total, listed, lambda part: {"connections": part})
        else:
            rooms = node.hub.rooms
            names, total = await first_names(rooms, question.limit, question.after, question.prefix)
            counts = [(name, len(rooms[name].members)) for name in names if name in rooms]
            self._answer_in_parts(question, total, counts, lambda part: {"rooms": dict(part)})

    def _about_itself(self) -> NodeInfo:
        heartbeat = self._node.heartbeat()
        return NodeInfo(
            id=heartbeat.node,
            address=heartbeat.address,
            version=heartbeat.version,
            state=heartbeat.state,
            started=heartbeat.started,
            connections=len(self._node.hub),
            rooms=self._node.hub.room_count,
            statistics=heartbeat.statistics,
        )

    def _connections(self, question: Question) -> dict[str, Member]:
        """Those that the filters let through: by the smallest index of the hub, never by looking at all of them."""
        hub = self._node.hub
        if question.room is not None:
            room = hub.rooms.get(question.room)
            members = {} if room is None else room.members
            if question.user is None:
                return members
            of_user = hub.users.get(question.user, {})
            return {name: member for name, member in of_user.items() if name in members}
        if question.user is not None:
            return hub.users.get(question.user, {})
        return hub.connections

    # -- actions -----------------------------------------------------------------------------------------------------

    async def _disconnect(self, order: Disconnect) -> None:
        is_revoked = order.cause in UNAUTHORIZED_CAUSES
        try:
            close = UNAUTHORIZED if is_revoked else ordered_close(order.code, order.reason)
        except BadClose as error:
            self._node.instrument.envelope_unreadable()  # a publisher of its own did not ask `ordered_close`
            self._answer(order, refusal=str(error))
            return
        members = self._meant_by(order)
        if order.moved is not None:
            for member in members:
                member.session_moved(order.moved)
            self._answer(order, total=0)
            return
        if is_revoked:
            self._end_guests(order)
        closed = 0
        for part in _parts(members, CLOSE_SLICE):
            if closed:
                await asyncio.sleep(0)
            closed += sum(self._evict(member, close, order.cause if is_revoked else "") for member in part)
        logger.info(
            "disconnected node=%s to=%s code=%d reason=%r cause=%r connections=%d",
            self._node.id, order.to, close.code, close.reason, order.cause, closed,
        )  # fmt: skip
        self._answer(order, total=closed)

    def _meant_by(self, order: Disconnect) -> list[Member]:
        """The connections here that an order to disconnect is about."""
        user = user_of_recipient(order.to)
        hub = self._node.hub
        if user is None:
            member = hub.connections.get(order.to)
            return [] if member is None else [member]
        members = list(hub.users.get(user, {}).values())
        if order.session is not None:
            members = [member for member in members if _tag_of(member) == order.session]
        return [member for member in members if _tag_of(member) not in order.spare]

    @contextlib.asynccontextmanager
    async def guest(self, user: str, tag: str) -> AsyncIterator[asyncio.Event]:
        """For what hangs on a session and is no connection of the cluster: the event is set when the session with that
        tag, or the user, is revoked on any node."""
        ended = asyncio.Event()
        guests = self._guests.setdefault(user, [])
        guests.append((tag, ended))
        group = group_of_user(user)
        try:
            with contextlib.suppress(BackplaneUnavailable):  # subscribed with the next recovery
                await self._node.subscriptions.acquire(group, keep_on_failure=True)
            try:
                yield ended
            finally:
                self._node.subscriptions.release(group)
        finally:
            guests.remove((tag, ended))
            if not guests:
                self._guests.pop(user, None)

    def _end_guests(self, order: Disconnect) -> None:
        for tag, ended in self._guests.get(user_of_recipient(order.to) or "", ()):
            if order.session in (None, tag) and tag not in order.spare:
                ended.set()

    def _evict(self, member: Member, close: CloseCode, cause: str) -> bool:
        if member.writer.is_closing:
            return False
        member.evict(close)
        self._node.instrument.connection_evicted(close, cause)
        return True

    def _remove(self, order: Remove) -> None:
        """The client is told by a ``left`` that it did not ask for."""
        node = self._node
        member = node.hub.connections.get(order.connection)
        is_removed = member is not None and node.leave(member, order.room)
        if member is not None and is_removed:
            left = Left(room=order.room)
            text = codec.encode(left)
            node.instrument.messages_sent(1, len(text))
            member.notify(FrameBatch([text], [left]))
        self._answer(order, total=int(is_removed))

    async def _drain(self, order: Drain) -> None:
        """Answer first: nobody hears a node that has gone. A second order must not become a second signal."""
        node = self._node
        if order.node != node.id:
            self._answer(order, refusal=f"this is {node.id}")
        elif self._is_drain_ordered or not node.is_accepting:
            self._answer(order, refusal="it drains already" if node.is_accepting else f"it is {node.state} already")
        else:
            self._is_drain_ordered = True
            logger.info("drain_ordered node=%s", node.id)
            answered = self._answer(order, total=1)
            await asyncio.wait([answered], timeout=1)
            self._on_drain()

    # -- answers -----------------------------------------------------------------------------------------------------

    def _answer_in_parts(
        self,
        question: Question,
        total: int,
        entries: Collection[Entry],
        fields: Callable[[list[Entry]], dict[str, object]],
    ) -> None:
        parts = list(_parts(entries, PART)) or [[]]
        for number, part in enumerate(parts, 1):
            self._answer(question, total=total, is_last=number == len(parts), **fields(part))

    def _answer(self, order: Order, **fields: object) -> asyncio.Future[int | None]:
        node = self._node
        if order.reply_to == NOBODY:
            nobody: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
            nobody.set_result(0)
            return nobody
        answer = Answer(
            v=node.version,
            node=node.id,
            request=order.request,
            others=node.nodes.others,
            is_settled=time.time() - node.started_at >= node.settings.heartbeat_seconds,
        )
        return node.answer(order.reply_to, msgspec.structs.replace(answer, **fields))


def _tag_of(member: Member) -> str | None:
    session = member.identity.session
    return None if session is None else session.tag


async def first_names(names: Collection[str], limit: int, after: str = "", prefix: str = "") -> tuple[list[str], int]:
    """The first ``limit`` of ``names`` after ``after``, in their order, and how many there are with ``prefix``."""
    first: list[str] = []
    total = 0
    for number, part in enumerate(_parts(list(names), SLICE)):
        if number:
            await asyncio.sleep(0)
        wanted = [name for name in part if name.startswith(prefix)] if prefix else part
        total += len(wanted)
        first = heapq.nsmallest(limit, [*first, *(name for name in wanted if name > after)])
    return first, total


def _parts(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    remaining = iter(entries)
    while part := list(islice(remaining, size)):
        yield part
