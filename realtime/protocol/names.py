"""Names of rooms, groups, channels, nodes and connections: every mapping between them is a function here.

A room is any text of 1 to 64 characters; a Channels group name is ASCII under 100 characters. ``group_of_room`` maps
one to the other without collisions; docs/protocol.md has test vectors for other languages.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

BROADCAST_GROUP = "rt.all"
NODES_GROUP = "rt.nodes"
GROUP_PREFIX = "rt."
ROOM_MAX_CHARACTERS = 64
USER_PREFIX = "user:"

NOBODY = "rt.nobody"
"""The channel that an order names which is not to be answered; nobody listens to it."""

MAIN_NAMESPACE = "/"

_PLAIN_ROOM = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PLAIN_USER = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NODE_ID = re.compile(r"[A-Za-z0-9_-]{1,60}")
_CONNECTION_ID = re.compile(r"([A-Za-z0-9_-]{1,60})\.[A-Za-z0-9_-]{16,32}")
_SESSION_ID = re.compile(r"([A-Za-z0-9_-]{1,60})\.[0-9a-f]{10}\.[A-Za-z0-9_-]{16,32}")
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def is_room_name(room: str) -> bool:
    """1 to 64 characters of any script; no control characters, line or paragraph separators."""
    if not 1 <= len(room) <= ROOM_MAX_CHARACTERS:
        return False
    if room.isascii():
        return room.isprintable()
    return not any(unicodedata.category(character) in _FORBIDDEN_CATEGORIES for character in room)


def group_of_room(room: str) -> str:
    """The group whose members are the nodes with a connection in ``room``.

    Names of ``[A-Za-z0-9_.-]`` stay readable (``rt.r.<room>``); all others become ``rt.h.<SHA-256 of the UTF-8, hex>``.
    """
    if _PLAIN_ROOM.fullmatch(room):
        return f"rt.r.{room}"
    return f"rt.h.{_digest(room)}"


def room_in_namespace(namespace: str, room: str) -> str:
    """The room of a Socket.IO namespace as the hub names it: apart from ours, as no room has a control character.

    The main namespace has our own rooms. The room without a name is everybody in the namespace.
    """
    return room if namespace == MAIN_NAMESPACE else f"{namespace}\n{room}"


def split_room(name: str) -> tuple[str, str]:
    """The namespace and the room of a name that ``room_in_namespace`` made."""
    namespace, separator, room = name.partition("\n")
    return (namespace, room) if separator else (MAIN_NAMESPACE, name)


def session_id(node_id: str, address: str, secret: str) -> str:
    """The id of an Engine.IO session: it names its node, and where that is reached, for balancers; else unguessable."""
    return f"{node_id}.{address_tag(address)}.{secret}"


def address_tag(address: str) -> str:
    """Stands for the address of a node in the ids of its sessions, without telling clients what it is."""
    return hashlib.sha256(address.encode()).hexdigest()[:10]


def node_of_session(session: str) -> str | None:
    """The id of the node that a session id names; None when it is not a session id."""
    match = _SESSION_ID.fullmatch(session)
    return match[1] if match else None


def group_of_user(user: str) -> str:
    """The group whose members are the nodes with a connection of ``user``."""
    if _PLAIN_USER.fullmatch(user):
        return f"rt.u.{user}"
    return f"rt.v.{_digest(user)}"


def node_channel(node_id: str) -> str:
    """The one channel on which a node receives what is addressed to it alone."""
    return f"rt.node.{node_id}"


def echo_stem(node_id: str) -> str:
    """The stem of the groups on which a node hears its own echo, one for each shard of the backplane."""
    return f"rt.echo.{node_id}"


def node_id_of(name: str, suffix: str) -> str:
    """A node's id: its configured name, made safe, and a suffix that no earlier process had."""
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:40] or "node"
    return f"{safe}-{suffix}"


def is_node_id(node_id: str) -> bool:
    """Whether this could be the id of a node."""
    return _NODE_ID.fullmatch(node_id) is not None


def node_of_connection(connection_id: str) -> str | None:
    """The id of the node that a connection id names; None when it is not a connection id."""
    match = _CONNECTION_ID.fullmatch(connection_id)
    return match[1] if match else None


def user_of_recipient(recipient: str) -> str | None:
    """The user id in ``user:<id>``; None when the recipient is not a user."""
    if recipient.startswith(USER_PREFIX) and len(recipient) > len(USER_PREFIX):
        return recipient[len(USER_PREFIX) :]
    return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
