"""Which users have which Django permissions: read once in a while, so that commands do not wait for the database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser

KNOWN_MAX = 10_000
"""Answers that are kept; the oldest goes first."""

Question = tuple[str, str]
"""A user and a permission."""


class Grants:
    """The answers of one node, each kept for ``kept_seconds``: an answer is that old at most."""

    def __init__(
        self,
        kept_seconds: float,
        *,
        read: Callable[[str, str], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kept_seconds = kept_seconds
        self._read_now = read or has_permission
        self._clock = clock
        self._known: dict[Question, tuple[bool, float]] = {}
        """Answers, and when each ends; oldest first."""
        self._asking: dict[Question, asyncio.Task[bool]] = {}
        """One for each question that somebody waits for."""

    async def has(self, user: str | None, permission: str) -> bool:
        """Whether the user has the permission. Many who ask at once are one query. Raises what the database raises."""
        if user is None:
            return False
        question = (user, permission)
        known = self._known.get(question)
        if known is not None and self._clock() < known[1]:
            return known[0]
        asking = self._asking.get(question)
        if asking is None:
            asking = asyncio.create_task(self._read(question), name=f"read permission {permission}")
            self._asking[question] = asking
        return await asyncio.shield(asking)

    async def _read(self, question: Question) -> bool:
        from channels.db import DatabaseSyncToAsync

        try:
            answer = await DatabaseSyncToAsync(self._read_now, thread_sensitive=False)(*question)
        finally:
            self._asking.pop(question, None)
        self._known.pop(question, None)
        while len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[question] = (answer, self._clock() + self._kept_seconds)
        return answer


def has_permission(user: str, permission: str) -> bool:
    """What the database says now; False for a user that it does not know."""
    found = find_user(user)
    return found.is_active and bool(getattr(found, "has_perm", _has_none)(permission))


def find_user(user: str | None) -> AbstractBaseUser | AnonymousUser:
    """The Django user with this primary key, as text; the anonymous one if there is none."""
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import AnonymousUser
    from django.core.exceptions import ValidationError

    if user is None:
        return AnonymousUser()
    try:
        found: AbstractBaseUser | None = get_user_model()._default_manager.filter(pk=user).first()
    except (ValueError, ValidationError):  # tokens may name users that could not be in this database
        return AnonymousUser()
    return found or AnonymousUser()


def _has_none(permission: str) -> bool:
    return False
