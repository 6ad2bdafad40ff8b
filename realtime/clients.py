"""Who sent what a project's own handler answers: what its commands and its Socket.IO events know alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from realtime.grants import find_user

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser

    from realtime.connection import Connection

C = TypeVar("C", bound="Connection")


class ConnectedClient(Generic[C]):
    """A client and its Django user. Plain functions call its coroutines through ``asgiref.sync.async_to_sync``."""

    def __init__(self, connection: C) -> None:
        self._connection = connection

    @property
    def id(self) -> str:
        """The id of the connection: private messages reach it, and others see it as the sender."""
        return self._connection.id

    @property
    def user_id(self) -> str | None:
        """The primary key of the Django user, as text; None for an anonymous client."""
        return self._connection.user

    def get_user(self) -> AbstractBaseUser | AnonymousUser:
        """The Django user, read from the database now. For plain functions."""
        return find_user(self.user_id)

    async def aget_user(self) -> AbstractBaseUser | AnonymousUser:
        """The same for coroutines."""
        from channels.db import DatabaseSyncToAsync

        user: AbstractBaseUser | AnonymousUser = await DatabaseSyncToAsync(self.get_user, thread_sensitive=False)()
        return user

    async def has_permission(self, permission: str) -> bool:
        """Whether the user has a Django permission (``app.codename``), as it was some seconds ago at most."""
        return await self._connection.caller.has_permission(permission)
