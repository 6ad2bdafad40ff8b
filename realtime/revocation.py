"""What Django does to sessions and users, told to the nodes at once: they close the connections that hang on them.

Heard are Django's own signals: a logout, a session that was deleted, a user who was deactivated, deleted, or given
another password. The nodes of the user are told once the transaction is committed; nothing in a request waits for the
backplane. When it is away a line in the log says so, and the nodes find out by themselves (SESSION_CHECK_SECONDS).

A password change ends all connections of the user but those of the session that changed it. Only
``RevocationMiddleware`` knows which one that is: Django gives the session another key in the same request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.apps import apps
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.signals import user_logged_out
from django.db import router, transaction
from django.db.models.signals import post_delete, post_save, pre_save
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from realtime.door import begin, publish, version
from realtime.instrument import LOGGED_OUT, PASSWORD_CHANGED, SESSION_DELETED, USER_DELETED, USER_INACTIVE
from realtime.protocol.closing import UNAUTHORIZED
from realtime.protocol.envelope import Disconnect
from realtime.protocol.names import NOBODY, USER_PREFIX, group_of_user
from realtime.runtime import runtime
from realtime.sessions import store_class, tag_of

logger = logging.getLogger("realtime.revocation")

PENDING_MAX = 1_000
"""Orders under way at the same time; with a backplane that does not answer each takes its time."""
WAIT_SECONDS = 5.0
"""How long a process without a node, which may end then, waits for a backplane that does not answer."""
MOVED = "moved"


@dataclass(frozen=True, slots=True)
class Revocation:
    """What is no longer good: all of a user's connections, or those of one session (``session``, by its tag).

    ``spare``: sessions of the user that stay. ``moved``: the session is good, and goes on under this tag.
    """

    user: str
    cause: str
    session: str | None = None
    spare: tuple[str, ...] = ()
    moved: str | None = None


class PendingRevocations:
    """What one request has revoked so far; told when it ends."""

    def __init__(self) -> None:
        self.revocations: list[Revocation] = []
        self.is_over = False


_pending: ContextVar[PendingRevocations | None] = ContextVar("realtime_pending_revocations", default=None)


def revoke(revocation: Revocation) -> None:
    """Tell the nodes: at the end of the request in which this happens, or at once where there is none."""
    pending = _pending.get()
    if pending is None or pending.is_over:
        _tell([revocation], may_wait=runtime().node is None)
    elif revocation not in pending.revocations:
        pending.revocations.append(revocation)


# -- signals ---------------------------------------------------------------------------------------------------------


def listen() -> None:
    """Hear what Django says about sessions and users. Called once the applications are loaded."""
    if not apps.is_installed("django.contrib.auth"):
        return
    user = get_user_model()
    name = "realtime.revocation"
    user_logged_out.connect(_logged_out, dispatch_uid=name)
    pre_save.connect(_user_changes, sender=user, dispatch_uid=name)
    post_save.connect(_user_changed, sender=user, dispatch_uid=name)
    post_delete.connect(_user_deleted, sender=user, dispatch_uid=name)
    get_model = getattr(store_class(), "get_model_class", None)
    if get_model is not None and apps.is_installed("django.contrib.sessions"):
        post_delete.connect(_session_deleted, sender=get_model(), dispatch_uid=name)


def _after_commit(revocation: Revocation, using: str) -> None:
    transaction.on_commit(partial(revoke, revocation), using=using, robust=True)


def _logged_out(sender: Any, request: Any = None, user: Any = None, **more: Any) -> None:
    key = getattr(getattr(request, "session", None), "session_key", None)
    if user is None or user.pk is None or not key:
        return
    _after_commit(Revocation(str(user.pk), LOGGED_OUT, tag_of(key)), router.db_for_write(get_user_model()))


def _session_deleted(sender: Any, instance: Any, using: str, **more: Any) -> None:
    if instance.expire_date <= timezone.now():
        return  # `clearsessions` removes thousands; their connections had a deadline
    user = instance.get_decoded().get(SESSION_KEY)
    if user is not None:
        _after_commit(Revocation(str(user), SESSION_DELETED, tag_of(instance.session_key)), using)


def _user_deleted(sender: Any, instance: Any, using: str, **more: Any) -> None:
    _after_commit(Revocation(str(instance.pk), USER_DELETED), using)


def _user_changes(
    sender: Any, instance: Any, using: str, raw: bool = False, update_fields: Any = None, **more: Any
) -> None:
    """Remember how the row is now: afterwards nobody could tell what has changed."""
    is_other_field = update_fields is not None and not {"password", "is_active"} & set(update_fields)
    if raw or instance._state.adding or is_other_field:
        return
    before = sender._base_manager.using(using).filter(pk=instance.pk).first()
    instance._realtime_before = None if before is None else (_hash_of(before), getattr(before, "is_active", True))


def _user_changed(sender: Any, instance: Any, using: str, **more: Any) -> None:
    before = instance.__dict__.pop("_realtime_before", None)
    if before is None:
        return
    hash_before, was_active = before
    user = str(instance.pk)
    if was_active and not getattr(instance, "is_active", True):
        _after_commit(Revocation(user, USER_INACTIVE), using)
    elif hash_before != _hash_of(instance):
        _after_commit(Revocation(user, PASSWORD_CHANGED), using)


def _hash_of(user: Any) -> str:
    return str(user.get_session_auth_hash()) if hasattr(user, "get_session_auth_hash") else ""


# -- telling ---------------------------------------------------------------------------------------------------------


class _Places:
    """How many orders are under way, over all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = 0

    def take(self) -> bool:
        with self._lock:
            has_room = self._taken < PENDING_MAX
            self._taken += has_room
            return has_room

    def give_back(self) -> None:
        with self._lock:
            self._taken -= 1


_places = _Places()


def _tell(revocations: Sequence[Revocation], *, may_wait: bool) -> None:
    """Begin to tell the nodes. With ``may_wait`` the call returns when they have heard it: a command may end then."""
    if not revocations:
        return
    if not _places.take():
        _failed(revocations[0], "too many are under way")
        return
    try:
        telling = begin(_tell_all(revocations))
    except RuntimeError as error:  # the loop is closed: this process ends
        _places.give_back()
        _failed(revocations[0], str(error))
        return
    telling.add_done_callback(lambda done: _places.give_back())
    if may_wait and not _is_in_loop():
        with contextlib.suppress(TimeoutError):
            telling.exception(WAIT_SECONDS)


async def _tell_all(revocations: Sequence[Revocation]) -> None:
    """In their order. Never raises."""
    for revocation in revocations:
        try:
            await publish(group_of_user(revocation.user), None, _order(revocation))
        except Exception as error:  # a backplane that is away, or a layer that cannot be made
            _failed(revocation, f"{type(error).__name__}: {error}")
        else:
            logger.info("credential_revoked user=%s cause=%s", revocation.user, revocation.cause)


def _order(revocation: Revocation) -> Disconnect:
    return Disconnect(
        v=version(),
        request="0",
        reply_to=NOBODY,
        to=f"{USER_PREFIX}{revocation.user}",
        code=UNAUTHORIZED.code,
        reason=UNAUTHORIZED.reason,
        session=revocation.session,
        spare=list(revocation.spare),
        moved=revocation.moved,
        cause=revocation.cause,
    )


def _failed(revocation: Revocation, problem: str) -> None:
    runtime().instrument.revocation_failed()
    effect = "connections stay until SESSION_CHECK_SECONDS"
    logger.error(
        "revocation_failed user=%s cause=%s error=%r effect=%r", revocation.user, revocation.cause, problem, effect
    )


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


# -- the request -----------------------------------------------------------------------------------------------------

GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class RevocationMiddleware:
    """Tells the nodes at the end of a request what it has revoked, and which session goes on under another key.

    It belongs right after ``SessionMiddleware``.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response: Any = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """The response of the view."""
        if self._is_async:
            return self._acall(request)
        pending, key = PendingRevocations(), _key_of(request)
        token = _pending.set(pending)
        try:
            return self._get_response(request)
        finally:
            _pending.reset(token)
            _end(pending, request, key)

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        pending, key = PendingRevocations(), _key_of(request)
        token = _pending.set(pending)
        try:
            response: HttpResponseBase = await self._get_response(request)
            return response
        finally:
            _pending.reset(token)
            if pending.revocations or key != _key_of(request):
                await sync_to_async(_end)(pending, request, key)
            pending.is_over = True


def _key_of(request: HttpRequest) -> str | None:
    session = getattr(request, "session", None)
    return None if session is None else session.session_key


def _end(pending: PendingRevocations, request: HttpRequest, key_before: str | None) -> None:
    pending.is_over = True
    key = _key_of(request)
    if pending.revocations or (key_before and key and key != key_before):
        session: Any = getattr(request, "session", {})
        _tell(settle(pending.revocations, key_before, key, session), may_wait=False)


def settle(revocations: Sequence[Revocation], before: str | None, after: str | None, session: Any) -> list[Revocation]:
    """What to tell at the end of a request whose session had the key ``before`` and has ``after``.

    1. A password that the session's own user changed spares this session, if it has taken the new password over. 2. A
    session that goes on under another key was not deleted.
    """
    tags = tuple(dict.fromkeys(tag_of(key) for key in (before, after) if key))
    user = str(session.get(SESSION_KEY)) if after and SESSION_KEY in session else None
    told = []
    for each in revocations:
        if each.cause == PASSWORD_CHANGED and each.user == user and _is_current(session):
            told.append(replace(each, spare=tags))
        elif not (
            each.cause == SESSION_DELETED and each.user == user and tags[:1] == (each.session,) and len(tags) == 2
        ):
            told.append(each)
    if user is not None and len(tags) == 2:
        told.append(Revocation(user, MOVED, session=tags[0], moved=tags[1]))
    return told


def _is_current(session: Any) -> bool:
    """Whether the session has the hash of the password that its user has now."""
    user = get_user_model()._base_manager.filter(pk=session.get(SESSION_KEY)).first()
    return user is not None and constant_time_compare(session.get(HASH_SESSION_KEY, ""), _hash_of(user))
