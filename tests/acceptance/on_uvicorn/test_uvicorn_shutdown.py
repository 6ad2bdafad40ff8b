"""A node on uvicorn is told to end: as on daphne, in order."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest
from websockets.exceptions import InvalidStatus
from websockets.frames import Opcode

from tests.acceptance.conftest import Connect
from tests.acceptance.engine.peer import Peer
from tests.acceptance.nodes import eventually
from tests.acceptance.on_uvicorn.conftest import LOOPS, StartNode
from tests.support.cluster import DaphneNode, http_status
from tests.support.uvicorn import UNCOMPRESSED

RESTART = (1012, "Service restart")
SIGNALS = [signal.SIGTERM, signal.SIGINT]


async def ended(node: DaphneNode, within: float = 10.0) -> int:
    return await asyncio.to_thread(node.wait, within)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("loop", LOOPS)
async def test_a_signal_ends_a_node_cleanly(
    start_node: StartNode, connect: Connect, loop: str, number: signal.Signals
) -> None:
    """Every client sees 1012 "Service restart" in batches; one that never reads and one that does not answer are not
    waited for long; the exit status is 0, and nothing went wrong."""
    node = start_node("--loop", loop, *UNCOMPRESSED)
    clients = await asyncio.gather(*(connect(node.url) for _ in range(250)))
    mute = [await asyncio.to_thread(Peer, node.port) for _ in range(2)]
    for number_sent in range(9):
        await clients[0].do("private", to=mute[0].id, data=f"{number_sent}" + "x" * 100_000)
    began = time.monotonic()
    os.kill(node.pid, number)
    assert {await client.closed() for client in clients} == {RESTART}
    assert await ended(node) == 0
    assert time.monotonic() - began < 8
    assert "Traceback" not in node.log
    assert "ERROR" not in node.log
    assert node.log.count("draining node=") == 1
    assert node.log.index("draining node=") < node.log.index("Shutting down")
    assert node.log.count(" code=1012 ") == 252
    for peer in mute:
        peer.socket.close()


@pytest.mark.parametrize(("loop", "pause_seconds"), [("asyncio", 0), ("uvloop", 0), ("asyncio", 0.6)])
async def test_what_waits_is_sent_before_the_close(
    start_node: StartNode, connect: Connect, loop: str, pause_seconds: float
) -> None:
    """A client that was slow to read gets everything that was handed over to it, and then the close frame; also one
    that takes 5 s for it, while it goes on reading."""
    node = start_node("--loop", loop, *UNCOMPRESSED)
    sender = await connect(node.url)
    slow = await asyncio.to_thread(lambda: Peer(node.port, receive_buffer=4096))
    for number in range(9):
        await sender.do("private", to=slow.id, data=f"{number}" + "x" * 100_000)
    node.terminate()
    assert await sender.closed() == RESTART
    frames = [await asyncio.to_thread(slow.frame)]
    while frames[-1].opcode is Opcode.TEXT:
        await asyncio.sleep(pause_seconds)  # how slow the client is
        frames.append(await asyncio.to_thread(slow.frame))
    slow.socket.close()
    assert [each.opcode for each in frames] == [Opcode.TEXT] * 9 + [Opcode.CLOSE]
    assert bytes(frames[-1].data) == b"\x03\xf4Service restart"
    assert await ended(node) == 0


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_draining_node_and_a_second_signal(
    start_node: StartNode, connect: Connect, number: signal.Signals
) -> None:
    """While the balancer is given time to notice, readiness is red, newcomers get 503 with Retry-After and who is there
    is served; a second signal ends the process at once."""
    environment = {"REALTIME_DRAIN_WAIT_SECONDS": "60", "REALTIME_DRAIN_DEADLINE_SECONDS": "120"}
    node = start_node(environment=environment)
    client = await connect(node.url)
    os.kill(node.pid, number)
    await eventually(lambda: http_status(node.port, "/health/ready") == 503, "readiness is red")
    with pytest.raises(InvalidStatus) as refused:
        await connect(node.url)
    assert refused.value.response.status_code == 503
    assert refused.value.response.headers["Retry-After"] == "5"
    await client.do("broadcast", data="still served", echo=True)
    await client.expect("broadcast")
    assert "ERROR" not in node.log
    began = time.monotonic()
    os.kill(node.pid, number)
    assert await ended(node, 2) == 128 + number
    assert time.monotonic() - began < 1


async def test_the_deadline_ends_a_node_that_cannot_drain(start_node: StartNode, connect: Connect) -> None:
    """Whatever a drain waits for, the process is gone at its deadline, with another exit status than 0."""
    environment = {"REALTIME_DRAIN_WAIT_SECONDS": "60", "REALTIME_DRAIN_DEADLINE_SECONDS": "1"}
    node = start_node(environment=environment)
    await connect(node.url)
    began = time.monotonic()
    node.terminate()
    assert await ended(node) == 1
    assert 0.9 < time.monotonic() - began < 2.5


async def test_an_end_without_a_signal(start_node: StartNode, connect: Connect) -> None:
    """uvicorn ends by itself after `--limit-max-requests`: its clients see the same as after a signal."""
    node = start_node("--limit-max-requests", "200")  # more than it takes to see that the node is ready
    client = await connect(node.url)

    def has_had_enough() -> bool:
        return any(http_status(node.port, "/health/live") is None for _ in range(200))

    await eventually(has_had_enough, "enough requests", 30)
    assert await client.closed() == RESTART
    assert await ended(node) == 0
