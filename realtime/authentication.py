"""The hook for a project's own way to say who a client is. docs/extending.md shows it.

    REALTIME = {"AUTHENTICATION": "shop.realtime.identify"}

    def identify(credentials: Credentials) -> Identity | None:
        ...

It is asked before the cookie of a session or a token is looked at. None leaves it to these; ``ANONYMOUS`` means that
the client is nobody, whatever else it brings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from realtime.auth import ANONYMOUS, Identity
from realtime.conf import BadSetting, Settings
from realtime.server.socket import Scope

__all__ = ["ANONYMOUS", "Credentials", "Identity"]

ANSWER_SECONDS = 10.0
"""A hook that has not answered by then has failed; a handshake holds a place in the node meanwhile."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client brings: in its handshake everything but ``token``, with the command ``authenticate`` that alone.

    Nothing of it shows in logs and tracebacks. Of headers and fields that come twice the last one counts.
    """

    path: str = ""
    address: str = ""
    """The client's, as far as proxies are believed."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By their names in small letters."""
    cookies: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: str | None = field(default=None, repr=False)


async def own_identity(settings: Settings, credentials: Callable[[], Credentials]) -> Identity | None:
    """What the project's hook says, if there is one. It may raise anything. Without one nothing is read."""
    if not settings.authentication:
        return None
    hook = hook_named(settings.authentication)
    async with asyncio.timeout(ANSWER_SECONDS):
        identity = await hook(credentials())
    if identity is None or isinstance(identity, Identity):
        return identity
    raise TypeError(f"{settings.authentication} answered {type(identity).__name__}, not an Identity or None")


def handshake(scope: Scope) -> Credentials:
    """The credentials in a handshake."""
    from django.http import parse_cookie

    headers = {name.decode("latin1").lower(): value.decode("latin1") for name, value in scope.get("headers", [])}
    return Credentials(
        path=str(scope.get("path", "")),
        address=str((scope.get("client") or [""])[0]),
        headers=headers,
        cookies=parse_cookie(headers.get("cookie", "")),
        query=dict(parse_qsl(scope.get("query_string", b"").decode("latin1"), keep_blank_values=True)),
    )


@lru_cache(maxsize=8)
def hook_named(path: str) -> Callable[[Credentials], Awaitable[Any]]:
    """The project's function; a plain one runs in a thread, where the database may be used. Raises BadSetting."""
    from channels.db import DatabaseSyncToAsync
    from django.utils.module_loading import import_string

    try:
        found: Any = import_string(path)
    except Exception as error:  # a module may fail with anything
        raise BadSetting("AUTHENTICATION", f"names {path!r}, which cannot be imported: {error}") from error
    if not callable(found):
        raise BadSetting("AUTHENTICATION", f"names {path!r}, which cannot be called")
    is_async = asyncio.iscoroutinefunction(found)
    hook: Callable[[Credentials], Awaitable[Any]] = (
        found if is_async else DatabaseSyncToAsync(found, thread_sensitive=False)
    )
    return hook


def require_hook(settings: Settings) -> None:
    """Raises BadSetting where AUTHENTICATION names nothing that could be asked."""
    if settings.authentication:
        hook_named(settings.authentication)
