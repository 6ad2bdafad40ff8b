"""Routing keys on the exchange of the RabbitMQ layer, from the names of groups and channels.

docs/backplanes.md has the table and test vectors for other languages.
"""

from __future__ import annotations

from realtime.protocol.names import BROADCAST_GROUP, NODES_GROUP

BROADCAST_KEY = "broadcast.message"
NODES_KEY = "nodes.message"

# Our groups by their beginning. A colon is in no name of a group, so that a room that is called like a digest never
# meets one.
_FAMILIES = (
    ("rt.r.", "room."),
    ("rt.h.", "room.sha256:"),
    ("rt.u.", "user."),
    ("rt.v.", "user.sha256:"),
    ("rt.echo.", "echo."),
)
_NODE_CHANNEL = "rt.node."


def key_of_group(group: str) -> str:
    """The routing key of a group: readable for ours, `group.<name>` for everybody else's."""
    if group == BROADCAST_GROUP:
        return BROADCAST_KEY
    if group == NODES_GROUP:
        return NODES_KEY
    for beginning, family in _FAMILIES:
        if group.startswith(beginning):
            return family + group[len(beginning) :]
    return f"group.{group}"


def key_of_channel(channel: str) -> str:
    """The routing key of a channel: `node.<id>` for a node's own, `channel.<name>` for a consumer's."""
    if channel.startswith(_NODE_CHANNEL):
        return f"node.{channel[len(_NODE_CHANNEL) :]}"
    return f"channel.{channel}"


def is_answered(key: bytes) -> bool:
    """Whether a publisher wants to know at once that nobody is bound to a key: it addresses somebody."""
    return key.startswith((b"node.", b"user."))
