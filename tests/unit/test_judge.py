"""Only True lets through; whatever else a class does refuses, and says so in the log within a bound."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from realtime import judge as module
from realtime.conf import BadSetting
from realtime.instrument import Instrument
from realtime.judge import Judge, permissions_named
from realtime.permissions import Caller, Forbidden, Permissions, Rule, Verdict
from realtime.protocol.errors import CommandRefused, InternalError
from realtime.protocol.names import room_in_namespace


class Noting(Instrument):
    def __init__(self) -> None:
        self.failures = 0

    def handler_failed(self) -> None:
        self.failures += 1


class Answering(Permissions):
    """Says the same to every question."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer

    def may_connect(self, caller: Caller, namespace: str) -> Verdict:
        return self.answer()  # type: ignore[no-any-return]

    def may_join(self, caller: Caller, room: str, namespace: str) -> Verdict:
        return self.answer()  # type: ignore[no-any-return]

    def may_publish(self, caller: Caller, room: str, namespace: str) -> Verdict:
        return self.answer()  # type: ignore[no-any-return]

    def may_broadcast(self, caller: Caller, namespace: str) -> Verdict:
        return self.answer()  # type: ignore[no-any-return]

    def may_send_private(self, caller: Caller, to: str) -> Verdict:
        return self.answer()  # type: ignore[no-any-return]


def asked(judge: Judge, question: str) -> Awaitable[None] | None:
    who = judge.caller("7", "ann", "node.id", "127.0.0.1", "websocket")
    arguments = () if question in ("connect", "broadcast") else ("lobby",)
    return getattr(judge, question)(who, *arguments)  # type: ignore[no-any-return]


def judge_saying(answer: Callable[[], Any], clock: Callable[[], float] = lambda: 0.0) -> tuple[Judge, Noting]:
    instrument = Noting()
    return Judge(Answering(answer), instrument, clock), instrument


def raising(error: Exception) -> Any:
    raise error


async def later(answer: Callable[[], Any]) -> Any:
    return answer()


@pytest.fixture(params=["connect", "join", "publish", "broadcast", "send_private"])
def question(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["sync", "async"])
def said(request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """The same answer of a plain method and of a coroutine."""
    if request.param == "sync":
        return lambda answer: answer
    return lambda answer: lambda: later(answer)


async def settle(pending: Awaitable[None] | None) -> None:
    if pending is not None:
        await pending


async def test_true_lets_through(question: str, said: Any) -> None:
    """Of a plain method at once, without anything to wait for."""
    judge, instrument = judge_saying(said(lambda: True))
    await settle(asked(judge, question))
    assert instrument.failures == 0
    assert asked(judge_saying(lambda: True)[0], question) is None


async def test_false_is_forbidden(question: str, said: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The log says who wanted what."""
    judge, instrument = judge_saying(said(lambda: False))
    with pytest.raises(Forbidden):
        await settle(asked(judge, question))
    assert instrument.failures == 0
    assert f"permission_refused action=may_{question}" in caplog.text
    assert "user='7' connection=node.id address=127.0.0.1" in caplog.text


async def test_a_class_may_say_why(question: str, said: Any) -> None:
    """With an exception of its own words."""
    judge, _ = judge_saying(said(lambda: raising(Forbidden("Members of the club only."))))
    with pytest.raises(Forbidden, match="the club"):
        await settle(asked(judge, question))


@pytest.mark.parametrize("answer", [1, "yes", None, object(), [True]], ids=lambda answer: type(answer).__name__)
async def test_anything_else_lets_nobody_through(
    question: str, said: Any, answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    """A forgotten return, or a value that is merely true, is a failure of the class."""
    judge, instrument = judge_saying(said(lambda: answer))
    with pytest.raises(InternalError):
        await settle(asked(judge, question))
    assert instrument.failures == 1
    assert "not True or False" in caplog.text


async def test_an_exception_lets_nobody_through(question: str, said: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback and counted; the client is told nothing of it."""
    judge, instrument = judge_saying(said(lambda: raising(ZeroDivisionError("a bug"))))
    with pytest.raises(InternalError) as refusal:
        await settle(asked(judge, question))
    assert "a bug" not in refusal.value.message
    assert instrument.failures == 1
    assert "permissions_failed" in caplog.text
    assert "ZeroDivisionError: a bug" in caplog.text


async def test_an_answer_that_does_not_come_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a while."""
    import asyncio

    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.01)
    judge, instrument = judge_saying(lambda: asyncio.Event().wait())
    with pytest.raises(InternalError):
        await settle(asked(judge, "broadcast"))
    assert instrument.failures == 1


@pytest.mark.parametrize(("answer", "most"), [(lambda: False, 3), (lambda: raising(ZeroDivisionError()), 1)])
def test_a_flood_does_not_fill_the_log(answer: Any, most: int, caplog: pytest.LogCaptureFixture) -> None:
    """Some lines in each two seconds; the next one says how many were left out."""
    now = [0.0]
    judge, _ = judge_saying(answer, lambda: now[0])

    def flood() -> None:
        for _ in range(1_000):
            with pytest.raises(CommandRefused):
                asked(judge, "publish")

    with caplog.at_level(logging.WARNING):
        flood()
        assert len(caplog.records) == most
        now[0] = 2.0
        flood()
    assert len(caplog.records) == 2 * most
    assert f"unlogged={1_000 - most}" in caplog.records[most].getMessage()


def test_names_of_rooms_in_namespaces() -> None:
    """A class sees the room and the namespace apart; everybody in a namespace is a broadcast."""
    seen: list[tuple[str, ...]] = []

    class Seeing(Permissions):
        def may_join(self, caller: Caller, room: str, namespace: str) -> Verdict:
            seen.append(("join", room, namespace))
            return True

        def may_publish(self, caller: Caller, room: str, namespace: str) -> Verdict:
            seen.append(("publish", room, namespace))
            return True

        def may_broadcast(self, caller: Caller, namespace: str) -> Verdict:
            seen.append(("broadcast", namespace))
            return True

    judge = Judge(Seeing(), Instrument())
    who = judge.caller(None, "", "", "", "socketio")
    for namespace in ("/", "/shop"):
        judge.join(who, room_in_namespace(namespace, "lobby"))
        judge.publish(who, room_in_namespace(namespace, "lobby"))
    judge.publish(who, room_in_namespace("/shop", ""))
    assert seen == [
        ("join", "lobby", "/"),
        ("publish", "lobby", "/"),
        ("join", "lobby", "/shop"),
        ("publish", "lobby", "/shop"),
        ("broadcast", "/shop"),
    ]


class FewArguments(Permissions):
    def may_join(self, caller: Caller) -> bool:  # type: ignore[override]
        return True


class NotRules(Permissions):
    rules = ("orders-*",)  # type: ignore[assignment]


class NeedsSomething(Permissions):
    def __init__(self, something: object) -> None:
        pass


class Good(Permissions):
    rules = (Rule("news", join=True),)

    async def may_join(self, caller: Caller, room: str, namespace: str = "/") -> bool:
        return True


INSTANCE = Good()


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "cannot be imported"),
        ("Permissions", "cannot be imported"),
        ("no.such.module", "cannot be imported"),
        ("realtime.permissions.Missing", "cannot be imported"),
        ("realtime.permissions.Rule", "is no subclass"),
        ("realtime.permissions.authenticated", "is no subclass"),
        (f"{__name__}.INSTANCE", "is no subclass"),
        (f"{__name__}.FewArguments", "may_join is called with 3 arguments"),
        (f"{__name__}.NotRules", "rules must be a list of Rule"),
        (f"{__name__}.NeedsSomething", "cannot be used"),
    ],
)
def test_a_class_that_could_not_be_asked(path: str, problem: str) -> None:
    """It is refused before the first client."""
    with pytest.raises(BadSetting, match=problem):
        permissions_named(path)


def test_a_class_that_can() -> None:
    """Coroutines and plain methods, with arguments of any names."""
    assert isinstance(permissions_named(f"{__name__}.Good"), Good)
