"""What a client may do: a class to subclass, and rules for rooms. docs/permissions.md shows both.

    from realtime.permissions import Permissions, Rule, authenticated

    class ShopPermissions(Permissions):
        rules = (Rule("orders-*", join=authenticated, publish=False),)

    REALTIME = {"PERMISSIONS": "shop.permissions.ShopPermissions"}

``realtime.judge`` asks it. What our own server publishes or does through ``realtime.api`` is not judged.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from realtime.grants import Grants, find_user
from realtime.protocol.errors import Forbidden

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser

__all__ = [
    "Caller",
    "Forbidden",
    "OpenPermissions",
    "Permissions",
    "Rule",
    "authenticated",
    "holders_of",
    "in_thread",
    "settled",
]

PRIVATE_PREFIX = "private-"
BROADCAST_PERMISSION = "realtime.broadcast"
RULES_REMEMBERED = 4_096

Verdict = bool | Awaitable[bool]
"""True lets through, False refuses, and so does everything else. A coroutine may say it later."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: one connection, and who its credential says it is."""

    user: str | None
    """The primary key of the Django user, as text; None for an anonymous client."""
    label: str
    """The name of the user, for people; may be empty."""
    connection: str
    """The id of the connection; empty while it is not let in yet."""
    address: str
    """Where the client is; behind a trusted proxy what that says."""
    transport: str
    """``websocket`` or ``socketio``."""
    grants: Grants = field(repr=False, compare=False)

    @property
    def is_anonymous(self) -> bool:
        """Whether no credential says who this is."""
        return self.user is None

    async def has_permission(self, permission: str) -> bool:
        """Whether the user has a Django permission (``app.codename``), as it was ``kept_seconds`` ago at most."""
        return await self.grants.has(self.user, permission)

    def get_user(self) -> AbstractBaseUser | AnonymousUser:
        """The Django user, read from the database now. For functions that run ``in_thread``."""
        return find_user(self.user)

    async def aget_user(self) -> AbstractBaseUser | AnonymousUser:
        """The same for coroutines."""
        user: AbstractBaseUser | AnonymousUser = await in_thread(self.get_user)()
        return user


Condition = bool | Callable[[Caller, str], Verdict]
"""For everybody (True), for nobody (False), or for those of whom a function of caller and room says True."""


def authenticated(caller: Caller, room: str) -> bool:
    """A condition: whoever has said who they are."""
    return caller.user is not None


def holders_of(permission: str) -> Callable[[Caller, str], Awaitable[bool]]:
    """A condition: users with this Django permission (``app.codename``)."""

    def holds(caller: Caller, room: str) -> Awaitable[bool]:
        return caller.has_permission(permission)

    return holds


def in_thread(function: Callable[..., bool] | Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Make a coroutine function of a plain one that uses the database: it runs in a thread, and others go on."""

    @functools.wraps(function)
    async def asked(*arguments: Any) -> Any:
        from channels.db import DatabaseSyncToAsync

        return await DatabaseSyncToAsync(function, thread_sensitive=False)(*arguments)

    return asked


async def settled(verdict: Verdict) -> bool:
    """A verdict that may come later, for coroutines: ``await settled(super().may_join(caller, room, namespace))``."""
    return verdict if isinstance(verdict, bool) else await verdict


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may join the rooms of a pattern, and publish to them; whatever it does not grant it refuses.

    In ``rooms`` a ``*`` stands for any characters, also none; everything else for itself. ``namespace``: the rooms of
    one Socket.IO namespace only; plain clients are in ``/``.
    """

    rooms: str
    _: KW_ONLY
    join: Condition = False
    publish: Condition = False
    namespace: str | None = None

    def __post_init__(self) -> None:
        rooms: object = self.rooms
        if not isinstance(rooms, str) or not rooms:
            raise TypeError(f"Rule: rooms must be a pattern like 'orders-*', not {self.rooms!r}")
        for condition in (self.join, self.publish):
            if not isinstance(condition, bool) and not callable(condition):
                raise TypeError(
                    f"Rule {self.rooms!r}: join and publish are True, False or functions, not {condition!r}"
                )

    def matches(self, room: str, namespace: str) -> bool:
        """Whether this rule speaks of the room. In time linear in the name, whatever the pattern."""
        if self.namespace is not None and self.namespace != namespace:
            return False
        first, *others = self.rooms.split("*")
        if not others:
            return room == first
        *middle, last = others
        if len(room) < len(first) + len(last) or not room.startswith(first) or not room.endswith(last):
            return False
        at, end = len(first), len(room) - len(last)
        for part in middle:
            at = room.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True


class Permissions:
    """The safe class, and the one to subclass. A method may be a plain function or a coroutine function.

    A plain one is called on the loop, for each command, and must answer at once: no database, no file, no network;
    ``in_thread`` makes a coroutine of one that needs them. Only True lets through. ``Forbidden("…")`` refuses with a
    message of one's own; any other exception is logged, and the command is answered with ``internal_error``.
    """

    rules: Sequence[Rule] = ()
    """The first that matches a room decides."""
    kept_seconds: ClassVar[float] = 30.0
    """How long ``Caller.has_permission`` keeps what it read: the age of an answer at most."""

    def may_connect(self, caller: Caller, namespace: str) -> Verdict:
        """May it be connected at all? Asked in the handshake, when a client says who it is, and for each namespace of
        Socket.IO. Whether clients may be anonymous is another setting."""
        return True

    def may_join(self, caller: Caller, room: str, namespace: str) -> Verdict:
        """May it be in the room, and see who else is? Who is in already is not asked again."""
        rule = self.rule_for(room, namespace) if self.rules else None
        if rule is None:
            return caller.user is not None and not room.startswith(PRIVATE_PREFIX)
        return rule.join if isinstance(rule.join, bool) else rule.join(caller, room)

    def may_publish(self, caller: Caller, room: str, namespace: str) -> Verdict:
        """May it publish to a room that it is in? Asked for each message."""
        rule = self.rule_for(room, namespace) if self.rules else None
        if rule is None:
            return caller.user is not None and not room.startswith(PRIVATE_PREFIX)
        return rule.publish if isinstance(rule.publish, bool) else rule.publish(caller, room)

    def may_broadcast(self, caller: Caller, namespace: str) -> Verdict:
        """May it publish to everybody? Asked for each message; in another namespace than ``/``: to all in that."""
        return caller.has_permission(BROADCAST_PERMISSION)

    def may_send_private(self, caller: Caller, to: str) -> Verdict:
        """May it send to ``to``: the id of a connection, or ``user:`` and the id of a user? Asked for each message."""
        return caller.user is not None

    def rule_for(self, room: str, namespace: str) -> Rule | None:
        """The first rule that matches."""
        return self._remembered_rule(room, namespace)

    @functools.cached_property
    def _remembered_rule(self) -> Callable[[str, str], Rule | None]:
        rules = tuple(self.rules)

        @functools.lru_cache(RULES_REMEMBERED)
        def first_match(room: str, namespace: str) -> Rule | None:
            return next((rule for rule in rules if rule.matches(room, namespace)), None)

        return first_match


class OpenPermissions(Permissions):
    """Everybody may do everything, anonymous clients too: for development, where only this machine is served."""

    def may_join(self, caller: Caller, room: str, namespace: str) -> Verdict:
        return True

    def may_publish(self, caller: Caller, room: str, namespace: str) -> Verdict:
        return True

    def may_broadcast(self, caller: Caller, namespace: str) -> Verdict:
        return True

    def may_send_private(self, caller: Caller, to: str) -> Verdict:
        return True
