"""The one place where clients are permitted or refused: it asks the project's class, and only True lets through.

Every command of every transport comes by here. What is refused is logged within a bound and counted; a class that
fails refuses as well. A plain method that answers True costs two calls, and no task, thread or await.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from django.utils.module_loading import import_string

from realtime.conf import BadSetting
from realtime.grants import Grants
from realtime.instrument import Instrument
from realtime.logs import LineLimit
from realtime.permissions import Caller, Permissions, Rule
from realtime.protocol.errors import CommandRefused, Forbidden, InternalError
from realtime.protocol.names import MAIN_NAMESPACE, split_room

logger = logging.getLogger("realtime.judge")

ANSWER_SECONDS = 10.0
"""A coroutine that has not answered by then has failed."""

QUESTIONS = {
    "may_connect": 2,
    "may_join": 3,
    "may_publish": 3,
    "may_broadcast": 2,
    "may_send_private": 2,
}
"""The methods of a class, and how many arguments each is called with."""

Later = Awaitable[None] | None
"""None: permitted. Else await it; it raises if not."""


class Judge:
    """The permissions of one node. Each method raises ``CommandRefused``, or returns what will."""

    def __init__(
        self, permissions: Permissions, instrument: Instrument, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.grants = Grants(permissions.kept_seconds, clock=clock)
        self._permissions = permissions
        self._may_join = permissions.may_join
        self._may_publish = permissions.may_publish
        self._instrument = instrument
        self._clock = clock
        self._refusals = {action: LineLimit() for action in QUESTIONS}
        self._failures = LineLimit(most=1)

    def caller(self, user: str | None, label: str, connection: str, address: str, transport: str) -> Caller:
        """Whoever asks, as the class sees it."""
        return Caller(user, label, connection, address, transport, self.grants)

    def connect(self, caller: Caller, namespace: str = MAIN_NAMESPACE) -> Later:
        """Let a client in."""
        return self._ask("may_connect", self._permissions.may_connect, caller, namespace)

    def join(self, caller: Caller, name: str) -> Later:
        """Put it into the room of this name."""
        try:
            verdict = self._may_join(caller, *(split_room(name)[::-1] if "\n" in name else (name, MAIN_NAMESPACE)))
        except Exception as error:
            raise self._refusal(error, "may_join", caller, name) from None
        return None if verdict is True else self._undecided("may_join", caller, name, verdict)

    def publish(self, caller: Caller, name: str) -> Later:
        """Publish to the room of this name; the one without a name is everybody in a namespace."""
        room, namespace = split_room(name)[::-1] if "\n" in name else (name, MAIN_NAMESPACE)
        if not room:
            return self.broadcast(caller, namespace)
        try:
            verdict = self._may_publish(caller, room, namespace)
        except Exception as error:
            raise self._refusal(error, "may_publish", caller, name) from None
        return None if verdict is True else self._undecided("may_publish", caller, name, verdict)

    def broadcast(self, caller: Caller, namespace: str = MAIN_NAMESPACE) -> Later:
        """Publish to everybody."""
        return self._ask("may_broadcast", self._permissions.may_broadcast, caller, namespace)

    def send_private(self, caller: Caller, to: str) -> Later:
        """Send a private message."""
        return self._ask("may_send_private", self._permissions.may_send_private, caller, to)

    def _ask(self, action: str, method: Callable[..., Any], caller: Caller, what: str) -> Later:
        try:
            verdict = method(caller, what)
        except Exception as error:
            raise self._refusal(error, action, caller, what) from None
        return None if verdict is True else self._undecided(action, caller, what, verdict)

    def _undecided(self, action: str, caller: Caller, what: str, verdict: object) -> Later:
        if inspect.isawaitable(verdict):
            return self._await(action, caller, what, verdict)
        self._require(action, caller, what, verdict)
        return None

    async def _await(self, action: str, caller: Caller, what: str, verdict: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await verdict
        except Exception as error:
            raise self._refusal(error, action, caller, what) from None
        self._require(action, caller, what, answer)

    def _require(self, action: str, caller: Caller, what: str, answer: object) -> None:
        if answer is True:
            return
        problem = Forbidden() if answer is False else TypeError(f"{action} answered {answer!r:.80}, not True or False")
        raise self._refusal(problem, action, caller, what)

    def _refusal(self, error: Exception, action: str, caller: Caller, what: str) -> CommandRefused:
        """What the client is told. The log has why, and who wanted what, as often as it may."""
        is_meant = isinstance(error, CommandRefused)
        lines = self._refusals[action] if is_meant else self._failures
        unlogged = lines.admit(self._clock())
        if not is_meant:
            self._instrument.handler_failed()
        if unlogged is not None:
            event = "permission_refused" if is_meant else "permissions_failed"
            logger.log(
                logging.WARNING if is_meant else logging.ERROR,
                f"{event} action=%s what=%r user=%r connection=%s address=%s transport=%s unlogged=%d",
                action, what, caller.user, caller.connection, caller.address, caller.transport, unlogged,
                exc_info=None if is_meant else error,
            )  # fmt: skip
        return error if isinstance(error, CommandRefused) else InternalError()


def permissions_named(path: str) -> Permissions:
    """The project's class, made. Raises BadSetting when there is none of that name, or it could not be asked."""
    try:
        found: Any = import_string(path)
    except Exception as error:  # a module may fail with anything
        raise BadSetting("PERMISSIONS", f"names {path!r}, which cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Permissions)):
        raise BadSetting("PERMISSIONS", f"names {path!r}, which is no subclass of realtime.permissions.Permissions")
    try:
        permissions = found()
        _require_shape(permissions)
    except Exception as error:
        raise BadSetting("PERMISSIONS", f"names {path!r}, which cannot be used: {error}") from error
    return permissions


def _require_shape(permissions: Permissions) -> None:
    for name, count in QUESTIONS.items():
        try:
            inspect.signature(getattr(permissions, name)).bind(*range(count))
        except TypeError as error:
            raise TypeError(f"{name} is called with {count} arguments: {error}") from error
    if not all(isinstance(rule, Rule) for rule in permissions.rules):
        raise TypeError("rules must be a list of Rule")
