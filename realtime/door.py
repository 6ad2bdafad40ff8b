"""How Django code gets to the backplane: through the node of this process, or through one background thread.

Sync code waits here for work in the loop of the node or the thread; async code awaits it there. In a process without a
node the answers of nodes come to a channel of the process's own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from channels.layers import channel_layers

from realtime.conf import current
from realtime.exceptions import BackplaneUnavailable
from realtime.inquiries import Gathering
from realtime.layers.backplane import Backplane, backplane_for
from realtime.layers.wire import as_envelope, as_message
from realtime.node import Node
from realtime.protocol.envelope import READS, Answer, Envelope, Order, UnreadableEnvelope, decode, encode
from realtime.protocol.names import NODES_GROUP, node_channel
from realtime.runtime import runtime

logger = logging.getLogger("realtime.api")

Result = TypeVar("Result")

MARGIN_SECONDS = 0.5
"""Beyond the backplane's own limit: what a busy thread may add."""
DATABASE_SECONDS = 0.4
"""How much longer than for nodes is waited for their names; the database is asked before that already."""
REPLY_PREFIX = "rt.reply"


class Door:
    """One background thread with an event loop, for processes without a node; made when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        """The node's loop in a process with a node, else the background thread's."""
        own = runtime().loop
        if own is not None:
            return own
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="realtime-api", daemon=True).start()
            return self._loop


_door = Door()


def _forget_parent() -> None:
    """A forked child has neither the parent's thread nor its loop."""
    global _door
    _door = Door()


os.register_at_fork(after_in_child=_forget_parent)


def run(work: Coroutine[Any, Any, Result], seconds: float | None = None) -> Result:
    """Do it in the right loop and wait, for so long at most (a publication's time by default)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        work.close()
        raise RuntimeError("this thread runs an event loop: await the function with an `a` in front instead")
    handle = asyncio.run_coroutine_threadsafe(work, _door.loop())
    try:
        return handle.result(_limit(seconds))
    except concurrent.futures.TimeoutError as error:
        handle.cancel()
        raise BackplaneUnavailable("the backplane did not answer in time") from error


def begin(work: Coroutine[Any, Any, Result]) -> concurrent.futures.Future[Result]:
    """Do it in the right loop without waiting for it. Raises RuntimeError when that loop is closed."""
    try:
        return asyncio.run_coroutine_threadsafe(work, _door.loop())
    except RuntimeError:
        work.close()
        raise


async def arun(work: Coroutine[Any, Any, Result], seconds: float | None = None) -> Result:
    """The async twin of ``run``."""
    loop = _door.loop()
    if loop is asyncio.get_running_loop():
        return await work
    handle = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
    try:
        async with asyncio.timeout(_limit(seconds)):
            return await handle
    except TimeoutError as error:
        raise BackplaneUnavailable("the backplane did not answer in time") from error


def _limit(seconds: float | None) -> float:
    return (current().publish_timeout_seconds if seconds is None else seconds) + MARGIN_SECONDS


def version() -> int:
    """The envelope version to publish in."""
    # A process without a node cannot know what the nodes read: the oldest version is read by all.
    node = runtime().node
    return READS[0] if node is None else node.version


overheard: list[Callable[[Envelope], None]] = []
"""Tests that want to know what is published: each is told. Without a node nothing leaves the process meanwhile."""


async def publish(group: str | None, node_id: str | None, envelope: Envelope) -> None:
    """Publish to a group, or else to one node. In the loop of the door."""
    node = runtime().node
    for hear in tuple(overheard):
        hear(envelope)
    if overheard and node is None:
        return
    if node is not None:
        await (node.publish(group, envelope) if group is not None else node.publish_to(node_id or "", envelope))
        return
    layer = channel_layers[current().layer]
    message = as_message(encode(envelope))
    try:
        async with asyncio.timeout(current().publish_timeout_seconds):
            if group is not None:
                await layer.group_send(group, message)
            else:
                await layer.send(node_channel(node_id or ""), message)
    except BackplaneUnavailable:
        raise
    except Exception as error:  # each layer has its own; all of them mean that it is not known to be taken
        raise BackplaneUnavailable(f"{type(error).__name__}: {error}") from error


# -- orders and their answers ----------------------------------------------------------------------------------------


async def ask(
    make: Callable[[str, str], Order], *, group: str | None = None, node_id: str | None = None, seconds: float
) -> Gathering:
    """Publish the order that ``make(request, reply_to)`` gives, and gather its answers, for so long at most.

    To a group, or with ``node_id`` to that node alone. Belongs to the loop of the door. Raises BackplaneUnavailable
    when the order is not known to be taken.
    """
    node = runtime().node
    target = Target(group, node_id)
    if node is not None:
        return await _ask_by_node(node, make, target, seconds)
    try:
        return await _ask_from_outside(channel_layers[current().layer], make, target, seconds)
    except BackplaneUnavailable:
        raise
    except Exception as error:  # as in `publish`
        raise BackplaneUnavailable(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class Target:
    """Whom an order is for: a group, or else one node."""

    group: str | None
    node_id: str | None

    @property
    def is_everybody(self) -> bool:
        """Whether every live node should answer."""
        return self.group == NODES_GROUP

    def gathering(self, known: Iterable[str] = ()) -> Gathering:
        """What waits for the answers; ``known`` are nodes that live for certain."""
        if self.group is None:
            return Gathering([self.node_id or ""], grows=False)
        return Gathering(known if self.is_everybody else (), grows=self.is_everybody)


async def _ask_by_node(node: Node, make: Callable[[str, str], Order], target: Target, seconds: float) -> Gathering:
    gathering = target.gathering([node.id])  # its own answer names the others
    order = make(gathering.request, node_channel(node.id))
    node.inquiries.begin(gathering)
    try:
        if target.group is not None:
            published = node.publish(target.group, order)
        else:
            published = node.publish_to(target.node_id or "", order)
        ends = asyncio.get_running_loop().time() + seconds
        await _take_over(gathering, published, ends)
        await gathering.wait(ends - asyncio.get_running_loop().time())
    finally:
        node.inquiries.end(gathering)
    return gathering


async def _ask_from_outside(layer: Any, make: Callable[[str, str], Order], target: Target, seconds: float) -> Gathering:
    """1. A channel for the answers; 2. the order; 3. the answers; 4. the names of those that are silent."""
    ends = asyncio.get_running_loop().time() + seconds
    gathering = target.gathering()
    async with asyncio.timeout_at(ends):
        channel = await layer.new_channel(REPLY_PREFIX)
    receiving = asyncio.create_task(_receive(layer, channel, gathering), name="answers")
    try:
        await asyncio.sleep(0)  # some layers make the channel in `receive`
        await _take_over(gathering, _published(layer, target, make(gathering.request, channel)), ends)
        await gathering.wait(seconds / 3)
        names = _look_for_names() if target.is_everybody and _has_nameless(gathering) else None
        await gathering.wait(ends - asyncio.get_running_loop().time())
    finally:
        receiving.cancel()
        await asyncio.wait([receiving])
    if names is not None and _has_nameless(gathering):
        await _name_silent(gathering, names, ends + DATABASE_SECONDS)
    return gathering


def _has_nameless(gathering: Gathering) -> bool:
    """Answers name the other nodes; that is not enough when a node that is silent is the only one."""
    if gathering.is_complete:
        return False
    return gathering.missing > len(gathering.silent) or not gathering.answered


async def _name_silent(gathering: Gathering, names: asyncio.Future[list[str]], ends: float) -> None:
    try:
        async with asyncio.timeout_at(ends):
            found = await names
    except TimeoutError:
        return
    unnamed = gathering.missing - len(gathering.silent)
    strange = [name for name in found if name not in gathering.answered | gathering.silent]
    gathering.expect(strange[:unnamed] if unnamed else strange)


def _published(layer: Any, target: Target, order: Order) -> Awaitable[int | None]:
    """Our own layers say how many took it; of others only the Channels API is used."""
    if hasattr(type(layer), "backplane"):
        backplane: Backplane = backplane_for(layer)
        if target.group is not None:
            return backplane.publish(target.group, encode(order))
        return backplane.publish_to(node_channel(target.node_id or ""), encode(order))
    message = as_message(encode(order))
    if target.group is not None:
        sent: Awaitable[None] = layer.group_send(target.group, message)
    else:
        sent = layer.send(node_channel(target.node_id or ""), message)
    return sent


async def _take_over(gathering: Gathering, published: Awaitable[int | None], ends: float) -> None:
    """Wait until the backplane took the order."""
    try:
        async with asyncio.timeout_at(ends):
            gathering.published(await published)
    except TimeoutError as error:
        raise BackplaneUnavailable("the backplane did not answer in time") from error


async def _receive(layer: Any, channel: str, gathering: Gathering) -> None:
    while True:
        text = as_envelope(await layer.receive(channel))
        try:
            envelope = decode(text or b"")
        except UnreadableEnvelope:
            continue  # not from a node of this version: it is named as silent
        if isinstance(envelope, Answer) and envelope.request == gathering.request:
            gathering.came(envelope)


def _look_for_names() -> asyncio.Future[list[str]]:
    """The live nodes as rows tell, the latest heartbeat first; no list when the database does not say it."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def look() -> None:
        from realtime import rows  # imports the models, which is possible only once Django has started

        try:
            names = rows.live_node_ids()
        except Exception as error:  # whatever the database or its driver raise: only names are missing
            logger.info("silent_nodes_unknown error=%r", f"{type(error).__name__}: {error}")
            names = []
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_settle, found, names)

    threading.Thread(target=look, name="realtime-silent-nodes", daemon=True).start()
    return found


def _settle(found: asyncio.Future[list[str]], names: list[str]) -> None:
    if not found.done():
        found.set_result(names)
