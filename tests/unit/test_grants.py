"""How old an answer about a Django permission may be, and how often the database is asked."""

from __future__ import annotations

import asyncio
import threading

import pytest

from realtime import grants as module
from realtime.grants import Grants


class Database:
    """Answers, and counts the questions."""

    def __init__(self) -> None:
        self.answer = True
        self.asked: list[tuple[str, str]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def read(self, user: str, permission: str) -> bool:
        self.asked.append((user, permission))
        self.may_answer.wait(10)
        return self.answer


async def test_an_answer_is_kept_for_a_while() -> None:
    """And asked for again after that: a permission that was taken away ends then."""
    database, now = Database(), [0.0]
    grants = Grants(30, read=database.read, clock=lambda: now[0])
    assert await grants.has("7", "a.b") is True
    database.answer, now[0] = False, 29.9
    assert await grants.has("7", "a.b") is True
    now[0] = 30.1
    assert await grants.has("7", "a.b") is False
    assert database.asked == [("7", "a.b")] * 2


async def test_many_who_ask_at_once_are_one_question() -> None:
    """A flood over many connections of a user does not reach the database."""
    database = Database()
    database.may_answer.clear()
    grants = Grants(30, read=database.read)
    asking = [asyncio.create_task(grants.has("7", "a.b")) for _ in range(50)]
    while not database.asked:
        await asyncio.sleep(0)
    asking[0].cancel()  # the others wait for the same answer
    database.may_answer.set()
    assert await asyncio.gather(*asking[1:]) == [True] * 49
    assert len(database.asked) == 1


async def test_anonymous_clients_have_no_permissions() -> None:
    """Nobody is asked."""
    database = Database()
    assert await Grants(30, read=database.read).has(None, "a.b") is False
    assert database.asked == []


async def test_a_failure_is_no_answer() -> None:
    """It is raised, and not kept."""
    broken = True

    def read(user: str, permission: str) -> bool:
        if broken:
            raise RuntimeError("no database")
        return True

    grants = Grants(30, read=read)
    with pytest.raises(RuntimeError):
        await grants.has("7", "a.b")
    broken = False
    assert await grants.has("7", "a.b") is True


async def test_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes first."""
    monkeypatch.setattr(module, "KNOWN_MAX", 2)
    database = Database()
    grants = Grants(30, read=database.read)
    for user in ("1", "2", "3", "2", "1"):
        await grants.has(user, "a.b")
    assert [user for user, _ in database.asked] == ["1", "2", "3", "1"]
