"""A flood of messages for code that does not get on. (Attack 8.)"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.abuse import sessions
from tests.acceptance.abuse.attacker import Target
from tests.acceptance.abuse.conftest import start
from tests.acceptance.abuse.oracle import MIB
from tests.acceptance.abuse.siege import Siege
from tests.acceptance.engine.peer import Peer, command
from tests.acceptance.nodes import metric
from tests.support.servers import RedisServer

APPLICATION = "tests.acceptance.abuse.application:application"
MESSAGES = 100_000
PATIENCE_SECONDS = 0.5  # as long as nothing at all is taken
PENDING_MAX = 20
SPOKEN = 150


@pytest.fixture(scope="module")
def slow_project(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[Siege]:
    """A node in a project whose own code is stuck, or slow, when a client wants it."""
    siege = start(
        redis_server,
        request.config.option.seed,
        application=APPLICATION,
        SIGNALS_PENDING_MAX=PENDING_MAX,
        # Rates would keep the attackers off, and it is what is behind them that is attacked here.
        COMMANDS_PER_SECOND=0,
        USER_COMMANDS_PER_SECOND=0,
        ADDRESS_COMMANDS_PER_SECOND=0,
    )
    yield siege
    siege.cluster.stop()


def push(peer: Peer, data: bytes) -> int:
    """Send as much as is taken; how much that was."""
    peer.socket.setblocking(False)
    left = memoryview(data)
    while left and select.select([], [peer.socket], [], PATIENCE_SECONDS)[1]:
        left = left[peer.socket.send(left[: 1 << 18]) :]
    return len(data) - len(left)


def floods_a_stuck_handler(target: Target) -> dict[str, float]:
    """100,000 events behind one whose handler waits."""
    eager, other = sessions.connected(target), sessions.connected(target, user=1, source="127.6.6.7")
    eager.send(sessions.event("stuck"))
    flood = sessions.event("no such event", "x" * 500) * MESSAGES
    begun = time.monotonic()
    taken = push(eager, flood)
    assert taken < len(flood), "everything was taken"
    time.sleep(max(0.0, begun + target.seconds - time.monotonic()))
    eager.abort()
    other.send(sessions.event("go on", ack=1))
    while not other.payload().startswith(b"431"):
        pass
    other.leave()
    return {"MiB": round(len(flood) / MIB, 1), "taken": round(taken / MIB, 1)}


def test_a_handler_that_is_stuck(slow_project: Siege) -> None:
    """What comes behind it is not read beyond INBOX_MAX_BYTES: the rest waits in the sender's own kernel."""
    outcome = slow_project.withstand(
        floods_a_stuck_handler, metric="realtime_clients_held_back_total", log="client_held_back .*user="
    )
    assert outcome.peak_bytes < 4 * MIB


def floods_a_slow_receiver(target: Target) -> None:
    """More messages than a receiver of the project's signal has time for."""
    peer = target.member("flooded")
    for number in target.paced(SPOKEN):
        peer.send(command("room", room="flooded", data="slow", ref=number))
        peer.expect("ack", ref=number)
    peer.leave()


@pytest.mark.slow
def test_a_receiver_that_is_slow(slow_project: Siege) -> None:
    """Signals are dropped and counted; nobody's messages wait for it."""
    outcome = slow_project.withstand(
        floods_a_slow_receiver, metric="realtime_signals_dropped_total", log="signals_dropped signal=message_received"
    )
    assert outcome.peak_bytes < 4 * MIB
    assert metric(slow_project.cluster.nodes[0], "realtime_signals_pending") <= PENDING_MAX
