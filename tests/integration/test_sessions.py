"""Django's sessions and users as connections see them: read, looked up in bulk, and heard of when they end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    login,
    logout,
    update_session_auth_hash,
)
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.http import HttpRequest
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from realtime.identity import ANONYMOUS
from realtime.revocation import PendingRevocations, Revocation, _pending
from realtime.sessions import find_active_user, look_at, read_session, tag_of

BACKEND = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture(autouse=True)
def _database(sqlite_file: Path) -> None:
    """Each test has an empty one."""


@pytest.fixture(autouse=True)
def pending() -> Iterator[PendingRevocations]:
    """What would be told at the end of a request."""
    pending = PendingRevocations()
    token = _pending.set(pending)
    yield pending
    _pending.reset(token)


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann", password="one two three four")


def request_of(user: User | None = None) -> Any:
    """A request with a session, logged in if there is a user."""
    request = HttpRequest()
    request.session = import_module(settings_engine()).SessionStore()
    if user is None:
        request.session.create()
    else:
        login(request, user, BACKEND)
        request.session.save()
    return request


def settings_engine() -> str:
    from django.conf import settings

    return settings.SESSION_ENGINE


def session_of(user: User) -> str:
    return str(request_of(user).session.session_key)


def is_good(key: str) -> bool:
    return key in look_at([key], [], must_exist=True).sessions


# -- reading ---------------------------------------------------------------------------------------------------------

ENGINES = ("db", "cached_db", "cache", "file", "signed_cookies")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_session_names_its_user(settings: Settings, tmp_path: Path, ann: User, engine: str) -> None:
    """Whatever keeps it: the user, the name, when it ends, and a tag in place of its key."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    key = session_of(ann)
    identity = read_session(key)
    assert (identity.user, identity.label) == (str(ann.pk), "ann")
    assert identity.expires_at is not None
    assert identity.expires_at > timezone.now().timestamp()
    assert identity.session is not None
    assert (identity.session.tag, identity.session.key) == (tag_of(key), key)
    assert key not in repr(identity)
    assert is_good(key)


def test_sessions_of_nobody(ann: User) -> None:
    """One that nobody is logged in to, one that is not there, and what is no key."""
    assert read_session(str(request_of().session.session_key)) == ANONYMOUS
    for key in ("abcdefghijklmnop", "", "x", "\0" * 20, "a" * 5_000, "é" * 20):
        assert read_session(key) == ANONYMOUS, key
    assert look_at(["abcdefghijklmnop"], [], must_exist=True).sessions == {}


def end_by_password(user: User, key: str) -> None:
    user.set_password("another one entirely")
    user.save()


def end_by_deactivation(user: User, key: str) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def end_by_time(user: User, key: str) -> None:
    Session.objects.filter(session_key=key).update(expire_date=timezone.now() - timedelta(seconds=1))


def end_by_deletion(user: User, key: str) -> None:
    Session.objects.filter(session_key=key).delete()


def end_of_the_user(user: User, key: str) -> None:
    user.delete()


@pytest.mark.parametrize(
    "end", [end_by_password, end_by_deactivation, end_by_time, end_by_deletion, end_of_the_user]
)  # fmt: skip
def test_sessions_that_are_no_longer_good(ann: User, end: Any) -> None:
    """To a new client and to the look at those who are here; nothing is deleted by reading."""
    key, other = session_of(ann), session_of(User.objects.create_user("ben", password="one two three four"))
    assert is_good(key)
    end(ann, key)
    rows = Session.objects.count()
    assert read_session(key) == ANONYMOUS
    assert not is_good(key)
    assert is_good(other)
    assert Session.objects.count() == rows


def test_a_new_secret_ends_no_session(settings: Settings, ann: User) -> None:
    """As long as the old one is among the fallbacks."""
    key = session_of(ann)
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "n" * 50
    assert is_good(key)
    assert read_session(key).user == str(ann.pk)
    settings.SECRET_KEY_FALLBACKS = []
    assert not is_good(key)


def test_many_are_looked_up_at_once(ann: User) -> None:
    """Two queries for hundreds of sessions; each comes with its user and when it ends."""
    template = Session.objects.get(session_key=session_of(ann))
    ends = timezone.now() + timedelta(hours=1)
    keys = [f"{number:032}" for number in range(400)]
    Session.objects.bulk_create(
        Session(session_key=k, session_data=template.session_data, expire_date=ends) for k in keys
    )
    with CaptureQueriesContext(connection) as queries:
        found = look_at([*keys, "gone" * 8], [], must_exist=True)
    assert len(queries) == 2
    assert set(found.sessions) == set(keys)
    user, until = found.sessions[keys[0]]
    assert (user, until) == (str(ann.pk), ends.timestamp())


def test_users_of_tokens(ann: User) -> None:
    """Who is not active may not be connected; who is not there, only where the issuer may know others."""
    ben = User.objects.create_user("ben", is_active=False)
    names = [str(ann.pk), str(ben.pk), "4711", "no-number", "9" * 30]
    assert look_at([], names, must_exist=True).inactive == set(names) - {str(ann.pk)}
    assert look_at([], names, must_exist=False).inactive == {str(ben.pk)}
    assert find_active_user(str(ann.pk)) == "ann"
    assert [find_active_user(name) for name in (*names[1:], f"0{ann.pk}")] == [None] * 5


# -- hearing ---------------------------------------------------------------------------------------------------------


def test_a_logout_is_told(ann: User, pending: PendingRevocations) -> None:
    """The session that it ends, by its tag."""
    request = request_of(ann)
    request.user, key = ann, str(request.session.session_key)
    logout(request)
    assert Revocation(str(ann.pk), "logged_out", tag_of(key)) in pending.revocations
    assert key not in repr(pending.revocations)


def test_a_logout_of_nobody_is_not_told(pending: PendingRevocations) -> None:
    """No connection hangs on it."""
    logout(request_of())
    assert pending.revocations == []


@pytest.mark.parametrize("engine", ["db", "cached_db"])
def test_a_deleted_session_is_told(settings: Settings, ann: User, pending: PendingRevocations, engine: str) -> None:
    """By itself, by the admin, and in bulk; not one that had expired."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    keys = [session_of(ann) for _ in range(4)]
    pending.revocations.clear()
    end_by_time(ann, keys[3])
    import_module(settings_engine()).SessionStore(keys[0]).flush()
    Session.objects.filter(session_key__in=keys[1:]).delete()
    expected = {Revocation(str(ann.pk), "session_deleted", tag_of(key)) for key in keys[:3]}
    assert set(pending.revocations) == expected


def test_what_happens_to_a_user_is_told(ann: User, pending: PendingRevocations) -> None:
    """Another password, by whatever way it is saved; a deactivation; a deletion. Once each, and nothing else."""
    user, told = str(ann.pk), pending.revocations
    ann.email = "ann@example.com"
    ann.save()
    ann.last_login = timezone.now()
    ann.save(update_fields=["last_login"])
    User.objects.create_user("ben", password="one two three four")
    assert told == []
    ann.set_password("another one entirely")
    ann.save(update_fields=["password"])
    assert told == [Revocation(user, "password_changed")]
    told.clear()
    again = User.objects.get(pk=ann.pk)
    again.set_password("a third one entirely")
    again.save()
    assert told == [Revocation(user, "password_changed")]
    told.clear()
    again.is_active = False
    again.save()
    again.save()
    assert told == [Revocation(user, "user_inactive")]
    told.clear()
    again.delete()
    assert told == [Revocation(user, "user_deleted")]


def test_nothing_is_told_before_it_is_true(ann: User, pending: PendingRevocations) -> None:
    """With the commit; a transaction that is rolled back has changed nothing."""
    ann.is_active = False
    with transaction.atomic():
        ann.save()
        assert pending.revocations == []
        transaction.set_rollback(True)
    assert pending.revocations == []
    with transaction.atomic():
        ann.save()
        assert pending.revocations == []
    assert [each.cause for each in pending.revocations] == ["user_inactive"]


def test_the_session_that_changes_its_password_stays_good(ann: User) -> None:
    """Django gives it another key and the new hash."""
    request = request_of(ann)
    request.user, before = ann, str(request.session.session_key)
    ann.set_password("another one entirely")
    ann.save()
    update_session_auth_hash(request, ann)
    request.session.save()
    assert not is_good(before)
    assert is_good(str(request.session.session_key))
    assert {SESSION_KEY, HASH_SESSION_KEY, BACKEND_SESSION_KEY} <= set(request.session.keys())
    assert get_user_model() is User
