"""Django sessions and users, as far as connections hang on them. Everything here asks the database or the cache.

Plain functions for a thread that may wait. What they read they never change: a session whose user is gone is left for
Django to clean up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model, load_backend
from django.core.exceptions import ValidationError
from django.db import connections
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from realtime.identity import ANONYMOUS, Identity, LiveSession

LOOKED_UP_AT_ONCE = 500
"""Sessions or users in one query; some databases take no more than 999 parameters."""
KEY_MAX_CHARACTERS = 4096
"""The key of a session that is kept in the cookie is the whole session."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at sessions and users found.

    ``sessions``: those that are good, by key, with their user and when they end (None: the store does not say).
    ``inactive``: users that may no longer be connected.
    """

    sessions: Mapping[str, tuple[str, float | None]]
    inactive: frozenset[str]


def tag_of(key: str) -> str:
    """What stands for a session between nodes and in logs: nobody gets from it to the session."""
    return salted_hmac("realtime.session", key, algorithm="sha256").hexdigest()[:32]


def store_class() -> Any:
    """The session store of this project."""
    return import_module(settings.SESSION_ENGINE).SessionStore


def read_session(key: str) -> Identity:
    """The user of a session; ANONYMOUS if there is no such session or nobody is logged in."""
    session, user = open_session(key)
    if user is None:
        return ANONYMOUS
    expires_at = session.get_expiry_date().timestamp()
    return Identity(str(user.pk), user.get_username(), expires_at, LiveSession(tag_of(key), key))


def open_session(key: str) -> tuple[Any, Any]:
    """The session with this key and the active user who is logged in; the user is None where there is none."""
    if not key.isprintable() or len(key) > KEY_MAX_CHARACTERS:
        return None, None  # no session has such a key, and PostgreSQL would raise for some
    session = store_class()(key)
    return session, _user_of(session, load=_by_backend)


def find_active_user(user: str) -> str | None:
    """The name of the user with this primary key, who is active; None when there is no such user."""
    found = _users([user]).get(user)
    return str(found.get_username()) if found is not None and _is_active(found) else None


def look_at(keys: Collection[str], users: Collection[str], *, must_exist: bool) -> Findings:
    """Which of these sessions are good, and which of these users may not be connected; in bulk.

    ``must_exist``: whether users who are not in the database may not. Gives the database connection back.
    """
    try:
        stored = dict(_stored(keys))
        asked = {str(data[SESSION_KEY]) for data, _ in stored.values() if SESSION_KEY in data}
        known = _users([*asked, *users])
        good: dict[str, tuple[str, float | None]] = {}
        for key, (data, expires_at) in stored.items():
            user = _user_of(data, load=lambda path, name: known.get(str(name)))
            if user is not None:
                good[key] = (str(user.pk), expires_at)
        inactive = {name for name in users if (not _is_active(known[name]) if name in known else must_exist)}
        return Findings(good, frozenset(inactive))
    finally:
        connections.close_all()


def _stored(keys: Iterable[str]) -> Iterator[tuple[str, tuple[Mapping[str, Any], float | None]]]:
    """The sessions that are there, with when they end."""
    store = store_class()
    get_model = getattr(store, "get_model_class", None)
    if get_model is None:  # in the cache, in files, in the cookie: one after the other
        for key in keys:
            session = store(key)
            data = session.load()
            yield key, (data, None)
        return
    decode = store().decode
    for part in _parts(keys):
        rows = get_model().objects.filter(session_key__in=part, expire_date__gt=timezone.now())
        for key, text, ends in rows.values_list("session_key", "session_data", "expire_date"):
            yield key, (decode(text), ends.timestamp())


def _users(names: Iterable[str]) -> dict[str, Any]:
    """The users with these primary keys, by these; what can be no primary key is no user."""
    model: Any = get_user_model()
    keys = set()
    for name in set(names):
        try:
            key = model._meta.pk.to_python(name)
            model._meta.pk.run_validators(key)
        except (ValidationError, ValueError, OverflowError, TypeError):
            continue
        keys.add(key)
    found: dict[str, Any] = {}
    for part in _parts(keys):
        found.update({str(user.pk): user for user in model._base_manager.filter(pk__in=part)})
    return found


def _user_of(data: Any, load: Any) -> Any:
    """The active user that a session is logged in as, as Django judges it; None for nobody."""
    try:
        name = get_user_model()._meta.pk.to_python(data[SESSION_KEY])
        path = data[BACKEND_SESSION_KEY]
    except (KeyError, ValidationError):
        return None
    user = load(path, name) if path in settings.AUTHENTICATION_BACKENDS else None
    if user is None or not _is_active(user) or not _has_right_hash(user, data.get(HASH_SESSION_KEY)):
        return None
    return user


def _has_right_hash(user: Any, session_hash: Any) -> bool:
    """Whether the password is the one of the login; with the project's older secrets as well."""
    if not hasattr(user, "get_session_auth_hash"):
        return True
    if not session_hash:
        return False
    own = (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    return any(constant_time_compare(session_hash, each) for each in own)


def _by_backend(path: str, name: Any) -> Any:
    return load_backend(path).get_user(name)


def _is_active(user: Any) -> bool:
    return bool(getattr(user, "is_active", True))


def _parts(names: Iterable[Any]) -> Iterator[list[Any]]:
    remaining = iter(names)
    while part := list(islice(remaining, LOOKED_UP_AT_ONCE)):
        yield part
