"""A peer that is gone without a word: its process stands still, or its cable was pulled."""

from __future__ import annotations

import ctypes
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.engine.peer import PING, PONG, Peer, command, frame
from tests.acceptance.engine.wire import Wire, pump
from tests.acceptance.limits.conftest import NewPeer, StartNodes, end_of
from tests.acceptance.nodes import assert_no_traceback, metric
from tests.support.cluster import DaphneNode
from tests.support.processes import CHECKOUT
from tests.support.servers import die_with_parent

INTERVAL_SECONDS, TIMEOUT_SECONDS = 3.0, 2.0
SLACK_SECONDS = 15.0  # for a busy machine
ABNORMAL = (1006, "")
SO_ATTACH_FILTER = 26
DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
"""One instruction of a packet filter: keep 0 bytes of whatever comes."""
PEER = """
import sys
from tests.acceptance.engine.peer import PING, PONG, Peer, frame
peer = Peer(int(sys.argv[1]))
peer.do("join", room="quay")
print(peer.id, flush=True)
while True:
    came = peer.frame(60)
    if came.opcode == PING:
        peer.send(frame(PONG, bytes(came.data)))
"""


def pull_the_cable(peer: Peer) -> None:
    """From now on the peer's kernel gets nothing of what the node sends, and acknowledges nothing."""
    memory = ctypes.create_string_buffer(DROP_ALL)
    program = struct.pack("HL", 1, ctypes.addressof(memory))
    peer.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


class Process:
    """A peer in a process of its own, which answers pings until it is stopped."""

    def __init__(self, node: DaphneNode) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PEER, str(node.port)],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent(),
        )
        assert self.process.stdout is not None
        self.id = self.process.stdout.readline().strip()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for each in started:
        each.close()


def test_lost_peers_are_found(start_nodes: StartNodes, new_peer: NewPeer, processes: list[Process]) -> None:
    """Within the ping's interval and timeout a stopped peer and one behind a pulled cable leave the hub, and their rows
    are closed with 1006, on daphne and on uvicorn, also while others talk to them. Who answers pings stays."""
    cluster = start_nodes(
        "daphne", "uvicorn", PING_INTERVAL_SECONDS=INTERVAL_SECONDS, PING_TIMEOUT_SECONDS=TIMEOUT_SECONDS
    )
    healthy: list[Wire] = []
    lost: list[str] = []
    for node in cluster.nodes:
        processes.append(Process(node))
        cut, answering = new_peer(node), new_peer(node)
        for peer in (cut, answering):
            peer.do("join", room="quay")
        healthy.append(Wire(answering))
        lost += [processes[-1].id, cut.id]
        processes[-1].stop()
        pull_the_cable(cut)
    began = time.monotonic()
    answered = dict.fromkeys(healthy, 0)

    def are_found() -> bool:
        for wire in healthy:
            pings = [each for each in wire.frames if each.opcode == PING]
            wire.send(*(frame(PONG, bytes(each.data)) for each in pings[answered[wire] :]))
            answered[wire] = len(pings)
        if not healthy[0].unsent:
            healthy[0].send(command("room", room="quay", data=time.monotonic()))
        return all(metric(node, "websocket_connected_clients") == 1 for node in cluster.nodes)

    pump(healthy, are_found, "finding the lost", INTERVAL_SECONDS + TIMEOUT_SECONDS + SLACK_SECONDS)
    print(f"found after {time.monotonic() - began:.1f} s")
    cluster.nodes[0].wait_until(lambda: all(end_of(cluster, row) == ABNORMAL for row in lost), "done with the rows")
    assert not any(wire.is_closed for wire in healthy)
    assert_no_traceback(cluster)
