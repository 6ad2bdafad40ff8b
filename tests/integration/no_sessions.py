"""A session engine that remembers what it was asked for, and then fails like a database that is away."""

from __future__ import annotations

from django.contrib.sessions.backends.base import SessionBase
from django.db import OperationalError

asked: list[str] = []


class SessionStore(SessionBase):
    """Cannot be read."""

    def load(self) -> dict[str, object]:
        asked.append(str(self.session_key))
        raise OperationalError("the database is away")
