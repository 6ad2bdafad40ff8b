"""What nodes answered, as Django code gets it: lists over the cluster, and what an order did. Pure.

A list is complete when ``is_partial`` is False. Otherwise ``silent`` names the nodes that did not answer in time, as
far as their names are known, and everything else is right for those that did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from realtime.inquiries import Gathering
from realtime.protocol.envelope import ConnectionInfo, NodeInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What every list says of itself."""

    is_partial: bool
    silent: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeList(Listing):
    """The nodes that answered, by id."""

    nodes: tuple[NodeInfo, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionList(Listing):
    """Connections by id. ``total`` and ``by_node`` count all that match, on whatever page; ``has_more``: a page
    follows, ``after`` the last id of this one."""

    connections: tuple[ConnectionInfo, ...]
    total: int
    by_node: Mapping[str, int]
    has_more: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomInfo:
    """One room: its members in all, and on each node that has some."""

    name: str
    members: int
    by_node: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomList(Listing):
    """Rooms by name. ``by_node``: how many rooms match on each node, on whatever page; one with members on two nodes
    counts on both."""

    rooms: tuple[RoomInfo, ...]
    by_node: Mapping[str, int]
    has_more: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What an order did.

    ``count``: connections that were disconnected, members that were removed, nodes that drain. ``refusals``: why nodes
    did nothing. ``is_partial``: a node did not answer in time and may or may not have done it.
    """

    count: int
    is_partial: bool
    silent: tuple[str, ...]
    refusals: tuple[str, ...]


def node_list(gathering: Gathering) -> NodeList:
    """The answers to a question about nodes."""
    nodes = {info.id: info for answer in gathering.answers for info in answer.nodes}
    return NodeList(
        nodes=tuple(nodes[name] for name in sorted(nodes)),
        is_partial=_is_partial(gathering),
        silent=_silent(gathering),
    )


def connection_list(gathering: Gathering, limit: int) -> ConnectionList:
    """The answers to a question about connections, for which ``limit + 1`` were asked of each node."""
    found = {info.id: info for answer in gathering.answers for info in answer.connections}
    by_node = {answer.node: answer.total for answer in gathering.answers}
    return ConnectionList(
        connections=tuple(found[name] for name in sorted(found)[:limit]),
        total=sum(by_node.values()),
        by_node=by_node,
        has_more=len(found) > limit,
        is_partial=_is_partial(gathering),
        silent=_silent(gathering),
    )


def room_list(gathering: Gathering, limit: int) -> RoomList:
    """The answers to a question about rooms, for which ``limit + 1`` were asked of each node.

    A room among the first ``limit`` of all is among the first ``limit`` of each node that has it: its count is whole.
    """
    found: dict[str, dict[str, int]] = {}
    for answer in gathering.answers:
        for name, members in answer.rooms.items():
            found.setdefault(name, {})[answer.node] = members
    first = sorted(found)[:limit]
    return RoomList(
        rooms=tuple(RoomInfo(name=name, members=sum(found[name].values()), by_node=found[name]) for name in first),
        by_node={answer.node: answer.total for answer in gathering.answers},
        has_more=len(found) > limit,
        is_partial=_is_partial(gathering),
        silent=_silent(gathering),
    )


def outcome(gathering: Gathering) -> Outcome:
    """The answers to anything that is done."""
    refusals = [f"{node}: {reason}" for node, reason in sorted(gathering.refusals.items())]
    if gathering.is_for_nobody and gathering.silent:
        refusals += [f"{node}: no such node" for node in sorted(gathering.silent)]
        return Outcome(count=0, is_partial=False, silent=(), refusals=tuple(refusals))
    return Outcome(
        count=sum(answer.total for answer in gathering.answers),
        is_partial=not gathering.is_complete,
        silent=tuple(sorted(gathering.silent)),
        refusals=tuple(refusals),
    )


def _is_partial(gathering: Gathering) -> bool:
    return not gathering.is_complete or bool(gathering.silent or gathering.refusals)


def _silent(gathering: Gathering) -> tuple[str, ...]:
    """A node that was too busy to answer has told nothing, either."""
    return tuple(sorted(gathering.silent | gathering.refusals.keys()))
