"""The oracle notices what an attack could do: nodes that let themselves be harmed do not withstand it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.abuse import sessions
from tests.acceptance.abuse.attacker import Target
from tests.acceptance.abuse.conftest import start
from tests.acceptance.abuse.oracle import MIB, Outcome, Round, surprise
from tests.acceptance.abuse.others import ANSWER, MESSAGE, Report
from tests.acceptance.abuse.siege import Siege
from tests.support.servers import RedisServer

APPLICATION = "tests.acceptance.abuse.application:application"
MS = 0.001


def asks_for_harm(target: Target) -> None:
    """Asks for some harm, one after the other, and waits until it is done."""
    peer = sessions.connected(target)
    for harm in target.arguments["harm"]:
        peer.send(sessions.event(*harm, ack=1))
        while not peer.payload().startswith(b"431"):
            pass
    peer.leave()


@pytest.fixture(scope="module")
def harmful(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[Siege]:
    """A node whose application does every harm that a client asks for."""
    siege = start(redis_server, request.config.option.seed, application=APPLICATION)
    yield siege
    siege.cluster.stop()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ([["block", 0.4]] * 3, ["p99 of message: ", "p99 of answer: ", "the loop was late "]),
        ([["keep"]] * 6 + [["lose", "pair-3"], ["fail"]], ["memory: ", "lost: pair-3", "Traceback"]),
    ],
    ids=["slow", "broken"],
)
def test_real_harm_is_noticed(harmful: Siege, harm: list[list[Any]], words: list[str]) -> None:
    """Each kind of harm is told in words of its own."""
    metric = "websocket_messages_received_total"
    outcome = harmful.endure(asks_for_harm, metric=metric, log="connection_", seconds=1.0, harm=harm)
    told = " ".join(outcome.failures)
    assert [each for each in words if each not in told] == [], told


def p99(message: float = 2, answer: float = 2) -> dict[str, float]:
    """In milliseconds."""
    return {MESSAGE: message * MS, ANSWER: answer * MS}


def a_round(**changes: Any) -> Round:
    """A round in which nothing happened to the others, but for the ``changes``."""
    known: dict[str, Any] = {
        "before": p99(),
        "during": p99(),
        "by_clock": p99(200),
        "worst_answer": 0.25,
        "late": 0,
        "report": Report(),
        "seen": [(1, "connection_closed code=1009"), (2, "connection_closed code=1008")],
        "surprise": "",
        "memory_bytes": 80 * MIB,
        "peak_bytes": 0,
        "cpu_seconds": 0.1,
        "seconds": 1.0,
        "handling_seconds": 0.1 * MS,
    }
    return Round(**{**known, **changes})


GOOD: dict[str, list[dict[str, Any]]] = {
    "nothing happened": [{}, {}],
    "within 5 ms": [{"during": p99(6.9, 6.9)}, {}],
    "within half as much again": [{"before": p99(20, 20), "during": p99(29, 29)}] * 2,
    "once slow, once late, and once not": [{"during": p99(50)}, {"late": 1}, {}],
    "late by the clock alone": [{"late": 1, "worst_answer": 0.02}] * 2,
    "a little more memory": [{}, {"memory_bytes": 87 * MIB}],
}
BAD: dict[str, list[dict[str, Any]]] = {
    "slow each time": [{"during": p99(message=7.1)}] * 3,
    "slow, and slow before": [{"before": p99(50), "during": p99(50)}, {"during": p99(50)}, {"during": p99(50)}],
    "slow to answer": [{"during": p99(answer=7.1)}] * 3,
    "half as much again and more": [{"before": p99(20, 20), "during": p99(20, 31)}] * 3,
    "late each time": [{"late": 1}] * 3,
    "slow or late": [{"late": 1}, {"during": p99(50)}, {"late": 1}],
    "lost once": [{}, {"report": Report(lost=["7 after 9"])}],
    "closed once": [{"report": Report(closed=["pair-1"])}, {}],
    "refused once": [{"report": Report(refused=1)}, {}],
    "missed once": [{"report": Report(missed=1)}, {}],
    "no metric": [{}, {"seen": [(1, "line"), (0, "line")]}],
    "no line": [{"seen": [(1, ""), (1, "line")]}, {}],
    "a traceback": [{"surprise": "n1: Traceback"}, {}],
    "memory": [{}, {"memory_bytes": 89 * MIB}],
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_withstood(name: str) -> None:
    """A round that is as good as quiet is enough for what the machine may spoil."""
    assert Outcome("attack", rounds=[a_round(**changes) for changes in GOOD[name]]).failures == []


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_withstood(name: str) -> None:
    """What the machine cannot cause must not be in any round."""
    assert Outcome("attack", rounds=[a_round(**changes) for changes in BAD[name]]).failures


def test_what_an_outage_excuses() -> None:
    """Messages that are refused, told as missed or late; not that one is lost, or an answer late."""
    told = a_round(report=Report(refused=9, missed=9), during=p99(message=2_000))
    assert Outcome("outage", is_outage=True, rounds=[told, told]).failures == []
    assert Outcome("outage", is_outage=True, rounds=[told, a_round(report=Report(lost=["7"]))]).failures
    late = a_round(during=p99(answer=50))
    assert Outcome("outage", is_outage=True, rounds=[late, late, late]).failures


@pytest.mark.parametrize(
    "line", ["Traceback (most recent call last):", "Unhandled error in Deferred:", "Unhandled Error"]
)
def test_surprises(line: str) -> None:
    """What Python and Twisted write when nobody expected an error."""
    assert surprise(f"node_ready node=n1\n{line}\n  …")
    assert not surprise("node_ready node=n1\nconnection_closed code=1002\n")
