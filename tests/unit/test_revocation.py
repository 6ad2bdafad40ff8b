"""What is told to the nodes at the end of a request."""

from __future__ import annotations

import pytest
from django.contrib.auth import SESSION_KEY

from realtime import revocation
from realtime.instrument import LOGGED_OUT, PASSWORD_CHANGED, SESSION_DELETED
from realtime.revocation import MOVED, Revocation, settle
from realtime.sessions import tag_of

OLD, NEW = "o" * 32, "n" * 32
OWN = {SESSION_KEY: "7"}


@pytest.fixture(autouse=True)
def _session_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is asked in the tests of integration."""
    monkeypatch.setattr(revocation, "_is_current", lambda session: True)


def deleted(key: str, user: str = "7") -> Revocation:
    return Revocation(user, SESSION_DELETED, tag_of(key))


def test_a_session_under_another_key_was_not_deleted() -> None:
    """After a login or a change of the password it goes on; the nodes are told its new tag."""
    moved = Revocation("7", MOVED, session=tag_of(OLD), moved=tag_of(NEW))
    assert settle([deleted(OLD)], OLD, NEW, OWN) == [moved]
    assert settle([], OLD, NEW, OWN) == [moved]


def test_what_else_was_deleted_is_told() -> None:
    """Other sessions of the user, those of others, and the own one if it does not go on as the same user's."""
    other = deleted("x" * 32)
    assert other in settle([other, deleted(OLD)], OLD, NEW, OWN)
    assert deleted(OLD, "8") in settle([deleted(OLD, "8")], OLD, NEW, OWN)
    assert settle([deleted(OLD)], OLD, NEW, {SESSION_KEY: "8"})[0] == deleted(OLD)
    assert settle([deleted(OLD)], OLD, None, {}) == [deleted(OLD)]
    assert settle([deleted(OLD)], OLD, OLD, OWN) == [deleted(OLD)]
    assert settle([deleted("x" * 32)], None, NEW, OWN) == [deleted("x" * 32)]


def test_a_logout_is_one_whatever_follows() -> None:
    """Also when the same user logs in again in the same request."""
    out = Revocation("7", LOGGED_OUT, tag_of(OLD))
    assert out in settle([out], OLD, NEW, OWN)


def test_a_password_spares_the_session_that_changed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under both of its keys; not when another user's was changed, nor when the session did not take it over."""
    changed = Revocation("7", PASSWORD_CHANGED)
    spared = Revocation("7", PASSWORD_CHANGED, spare=(tag_of(OLD), tag_of(NEW)))
    assert settle([changed, deleted(OLD)], OLD, NEW, OWN)[0] == spared
    assert settle([changed], OLD, OLD, {SESSION_KEY: "1"}) == [changed]
    assert settle([changed], None, None, {}) == [changed]
    monkeypatch.setattr(revocation, "_is_current", lambda session: False)
    assert settle([changed], OLD, OLD, OWN) == [changed]


def test_a_tag_does_not_show_its_session() -> None:
    """It is the same each time, another one for each session, and not the key."""
    assert tag_of(OLD) == tag_of(OLD) != tag_of(NEW)
    assert OLD not in tag_of(OLD)
