"""Who is in a room, over the whole cluster, for those who asked.

1. The first local watcher of a room makes the node ask all others (``watch``); each answers with its *roster*.
2. From then on the others tell their changes to this node's channel, gathered for ``members_interval_ms``.
3. Local and told changes are gathered again and pushed to the watchers: one push per room and interval at most.
4. After an interruption the watched rooms are asked for again, and differences are changes; another node that appears,
   was interrupted, or did not know this one any more, is asked alone.
5. A node that says goodbye or dies takes its members with it.

Rosters and changes of one node travel on one channel, so that they cannot overtake each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from realtime.hub import Hub, Member
from realtime.protocol import codec
from realtime.protocol.envelope import RosterChange
from realtime.protocol.frames import FrameBatch
from realtime.protocol.messages import MemberInfo, MembersChanged

ASK_ROOMS_MAX = 500
"""Rooms in one question: keeps the rosters that answer it small enough for every backplane."""


class Changes:
    """Joins and leaves not yet told; a join and leave of the same connection cancel out."""

    __slots__ = ("joined", "left")

    def __init__(self) -> None:
        self.joined: dict[str, MemberInfo] = {}
        self.left: dict[str, MemberInfo] = {}

    def join(self, info: MemberInfo) -> None:
        """A connection joined."""
        if self.left.pop(info.id, None) != info:
            self.joined[info.id] = info

    def leave(self, info: MemberInfo) -> None:
        """A connection left."""
        if self.joined.pop(info.id, None) is None:
            self.left[info.id] = info

    def __bool__(self) -> bool:
        return bool(self.joined or self.left)


class WatchedRoom:
    """A room with local watchers: what every other node said of it."""

    __slots__ = ("asked", "rosters", "untold", "watchers")

    def __init__(self) -> None:
        self.watchers: dict[str, Member] = {}
        self.rosters: dict[str, dict[str, MemberInfo]] = {}
        self.untold = Changes()
        self.asked: asyncio.Future[None] | None = None


class MemberLists:
    """The node's part in keeping member lists. Publishing is the node's: it gives the four callables.

    ``ask(rooms)`` publishes a watch to all nodes, ``unask(rooms)`` its end; ``tell(node, changes)`` publishes changes
    to one node's channel; ``others()`` are the ids of the other live nodes. ``pushed(count, size)`` is told of pushes.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        ask: Callable[[list[str]], None],
        unask: Callable[[list[str]], None],
        tell: Callable[[str, list[RosterChange]], None],
        others: Callable[[], Iterable[str]],
        pushed: Callable[[int, int], None] = lambda count, size: None,
        interval_seconds: float,
        timeout_seconds: float,
    ) -> None:
        self._hub = hub
        self._ask = ask
        self._unask = unask
        self._tell = tell
        self._others = others
        self._pushed = pushed
        self._interval = interval_seconds
        self._timeout = timeout_seconds
        self._watched: dict[str, WatchedRoom] = {}
        self._watching_nodes: dict[str, set[str]] = {}
        self._untold: dict[str, Changes] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def watched_rooms(self) -> list[str]:
        """The rooms that a local connection watches."""
        return list(self._watched)

    # -- local connections -------------------------------------------------------------------------------------------

    async def watch(self, member: Member, room: str) -> list[str]:
        """Make ``member`` a watcher of ``room``; returns the nodes that did not answer in time."""
        watched = self._watched.get(room)
        if watched is None:
            watched = self._watched[room] = WatchedRoom()
            watched.asked = asyncio.get_running_loop().create_future()
            self._ask([room])
        watched.watchers[member.id] = member
        self._check_answers(watched)
        if watched.asked is not None and not watched.asked.done():
            await asyncio.wait([watched.asked], timeout=self._timeout)
            if not watched.asked.done():
                watched.asked.set_result(None)  # what comes later is told as changes
        return sorted(set(self._others()) - set(watched.rosters))

    def members_of(self, room: str) -> dict[str, MemberInfo]:
        """Everybody known to be in a watched room, by connection id."""
        local = self._hub.rooms.get(room)
        known = {member.id: member.info for member in local.members.values()} if local else {}
        watched = self._watched.get(room)
        for roster in watched.rosters.values() if watched else ():
            known.update(roster)
        return known

    def unwatch(self, member: Member, room: str) -> None:
        """``member`` no longer wants to hear of ``room``."""
        watched = self._watched.get(room)
        if watched is None or watched.watchers.pop(member.id, None) is None or watched.watchers:
            return
        del self._watched[room]
        self._unask([room])

    def joined(self, member: Member, room: str) -> None:
        """A local connection joined."""
        for changes in self._interested(room):
            changes.join(member.info)

    def left(self, member: Member, room: str) -> None:
        """A local connection left."""
        for changes in self._interested(room):
            changes.leave(member.info)

    # -- other nodes -------------------------------------------------------------------------------------------------

    def node_watches(self, node_id: str, rooms: Iterable[str]) -> dict[str, list[MemberInfo]]:
        """Another node watches ``rooms``; returns this node's roster for it."""
        roster: dict[str, list[MemberInfo]] = {}
        for room in rooms:
            self._watching_nodes.setdefault(room, set()).add(node_id)
            local = self._hub.rooms.get(room)
            roster[room] = [member.info for member in local.members.values()] if local else []
        return roster

    def node_unwatches(self, node_id: str, rooms: Iterable[str]) -> None:
        """Another node no longer watches ``rooms``."""
        for room in rooms:
            nodes = self._watching_nodes.get(room)
            if nodes is not None:
                nodes.discard(node_id)
                if not nodes:
                    del self._watching_nodes[room]

    def roster_came(self, node_id: str, rooms: Mapping[str, list[MemberInfo]]) -> None:
        """Another node said who it has in ``rooms``: the whole truth of that node."""
        for room, members in rooms.items():
            watched = self._watched.get(room)
            if watched is None:
                continue
            before = watched.rosters.get(node_id, {})
            now = {info.id: info for info in members}
            watched.rosters[node_id] = now
            if watched.asked is None or watched.asked.done():  # before that, the watchers get the list itself
                for gone in before.keys() - now.keys():
                    watched.untold.leave(before[gone])
                for new in now.keys() - before.keys():
                    watched.untold.join(now[new])
                self._schedule()
            self._check_answers(watched)

    def changes_came(self, node_id: str, changes: Iterable[RosterChange]) -> None:
        """Another node said what changed among its members."""
        for change in changes:
            watched = self._watched.get(change.room)
            if watched is None:
                continue
            roster = watched.rosters.setdefault(node_id, {})
            for info in change.left:
                if roster.pop(info.id, None) is not None:
                    watched.untold.leave(info)
            for info in change.joined:
                if roster.get(info.id) != info:
                    roster[info.id] = info
                    watched.untold.join(info)
        self._schedule()

    def node_gone(self, node_id: str) -> None:
        """A node is gone, and its members with it."""
        for watched in self._watched.values():
            for info in watched.rosters.pop(node_id, {}).values():
                watched.untold.leave(info)
            self._check_answers(watched)
        self.node_unwatches(node_id, list(self._watching_nodes))
        self._schedule()

    def ask_again(self) -> None:
        """Ask all nodes for every watched room anew, after an interruption."""
        for rooms in self.questions():
            self._ask(rooms)

    def questions(self) -> list[list[str]]:
        """Every watched room, in as many questions as they need."""
        rooms = self.watched_rooms
        return [rooms[start : start + ASK_ROOMS_MAX] for start in range(0, len(rooms), ASK_ROOMS_MAX)]

    def close(self) -> None:
        """Stop telling anybody anything."""
        if self._timer is not None:
            self._timer.cancel()

    # -- gathering ---------------------------------------------------------------------------------------------------

    def _interested(self, room: str) -> list[Changes]:
        interested = []
        watched = self._watched.get(room)
        if watched is not None:
            interested.append(watched.untold)
        if room in self._watching_nodes:
            interested.append(self._untold.setdefault(room, Changes()))
        if interested:
            self._schedule()
        return interested

    def _check_answers(self, watched: WatchedRoom) -> None:
        if watched.asked is not None and not watched.asked.done() and not set(self._others()) - set(watched.rosters):
            watched.asked.set_result(None)

    def _schedule(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._flush)

    def _flush(self) -> None:
        self._timer = None
        by_node: dict[str, list[RosterChange]] = {}
        for room, changes in self._untold.items():
            change = RosterChange(room, list(changes.joined.values()), list(changes.left.values()))
            for node_id in self._watching_nodes.get(room, ()) if changes else ():
                by_node.setdefault(node_id, []).append(change)
        self._untold.clear()
        for node_id, told in by_node.items():
            self._tell(node_id, told)
        for room, watched in self._watched.items():
            if watched.untold:
                changes, watched.untold = watched.untold, Changes()
                self._pushed(*_push(room, watched.watchers.values(), changes))


def _push(room: str, watchers: Iterable[Member], changes: Changes) -> tuple[int, int]:
    """Tell all watchers; returns the number of messages and their bytes."""
    push = MembersChanged(room=room, joined=list(changes.joined.values()), left=list(changes.left.values()))
    batch = FrameBatch([codec.encode(push)], [push])
    alone = next(iter(changes.joined)) if len(changes.joined) == 1 and not changes.left else None
    count = 0
    for watcher in watchers:
        # A watcher knows of its own join; with others in the same push it is told again, which changes nothing.
        if watcher.id != alone:
            watcher.writer.write(batch)
            count += 1
    return count, count * len(batch.texts[0])
