"""One database connection for all threads, while a test is in a transaction.

Django's database connections belong to threads, and a transaction to a connection: what a ``TestCase`` has created is
seen by its own thread alone. The code of an application under test runs in others: Channels' thread for the database,
the pool for handlers, one for each HTTP request. Django's own ``LiveServerTestCase`` hands the connection on to the one
thread that it starts; here nobody knows the threads, so that the registry of connections answers them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import sync_to_async


async def transactions() -> dict[str, Any]:
    """The connections, by alias, that are in a transaction of the test.

    pytest-django's ``db`` has them in this thread, Django's ``TestCase`` in that where coroutines make ORM calls.
    """
    found: dict[str, Any] = await sync_to_async(_in_transaction)()
    loop = asyncio.get_running_loop()
    asyncio._set_running_loop(None)  # in a thread with a running loop Django shows a coroutine's connections alone
    try:
        return found | _in_transaction()
    finally:
        asyncio._set_running_loop(loop)


@contextmanager
def shared(found: dict[str, Any]) -> Iterator[None]:
    """Let every thread use these connections. None of them is closed meanwhile, whoever asks for it."""
    from django.db import connections

    if not found:
        yield
        return
    registry: Any = connections
    own = registry._connections
    for each in found.values():
        each.inc_thread_sharing()
        each.close = _left_open
    registry._connections = _Shared(own, found)
    try:
        yield
    finally:
        registry._connections = own
        for each in found.values():
            del each.close
            each.dec_thread_sharing()


class _Shared:
    """In place of the registry's thread-local storage. Aliases that are not shared belong to threads as ever."""

    def __init__(self, own: Any, found: dict[str, Any]) -> None:
        self.__dict__.update(_own=own, _found=found)

    def __getattr__(self, alias: str) -> Any:
        found = self.__dict__["_found"].get(alias)
        return getattr(self.__dict__["_own"], alias) if found is None else found

    def __setattr__(self, alias: str, connection: Any) -> None:
        setattr(self.__dict__["_own"], alias, connection)

    def __delattr__(self, alias: str) -> None:
        delattr(self.__dict__["_own"], alias)


def _in_transaction() -> dict[str, Any]:
    from django.db import connections

    return {each.alias: each for each in connections.all(initialized_only=True) if each.in_atomic_block}


def _left_open() -> None:
    """The test needs it again."""
