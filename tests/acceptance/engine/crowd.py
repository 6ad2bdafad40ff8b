"""Thousands of members of one room, in a process of their own.

Its command line: `python -m tests.acceptance.engine.crowd PORT COUNT ROOM`.

It says "joined" when all are in, then reads everything that comes and throws it away. A line on its standard input is
answered with the number of bytes that came so far; it ends with its standard input.
"""

from __future__ import annotations

import base64
import os
import selectors
import socket
import sys
import time

from tests.acceptance.engine.peer import command
from tests.support.answering import AnsweringProcess

AT_ONCE = 200  # handshakes under way; well below the listen backlog
BUFFER = bytearray(1 << 18)


class Crowd(AnsweringProcess):
    """The process, for the test that started it."""

    def __init__(self, port: int, count: int, room: str) -> None:
        super().__init__("tests.acceptance.engine.crowd", port, count, room)
        self.count = count

    def wait_joined(self) -> None:
        assert self.line() == "joined", "the crowd has ended"

    @property
    def received_bytes(self) -> int:
        """All bytes that came for all members, handshakes left out."""
        return int(self.ask("?"))

    def wait_received(self, count: int, what: str, within: float) -> None:
        deadline = time.monotonic() + within
        while (came := self.received_bytes) < count:
            assert time.monotonic() < deadline, f"{what}: {came} of {count} bytes within {within:g} s"
            time.sleep(0.005)


class Members:
    """The sockets, inside the process."""

    def __init__(self, port: int, room: str) -> None:
        self.port = port
        self.join = command("join", room=room)
        self.selector = selectors.DefaultSelector()
        self.received = 0
        self.joined = 0
        self.begun: dict[socket.socket, bytes] = {}  # what came so far on those that are not in yet

    def open_one(self) -> None:
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.setblocking(False)
        key = base64.b64encode(os.urandom(16)).decode()
        sock.send(
            f"GET /ws/ HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.begun[sock] = b""
        self.selector.register(sock, selectors.EVENT_READ)

    def read(self, sock: socket.socket) -> None:
        try:
            count = sock.recv_into(BUFFER)
        except BlockingIOError:
            return
        if count == 0:
            raise SystemExit("a member was closed")
        if sock in self.begun:
            self._go_in(sock, bytes(BUFFER[:count]))
        else:
            self.received += count

    def _go_in(self, sock: socket.socket, data: bytes) -> None:
        before, came = self.begun[sock], self.begun[sock] + data
        self.begun[sock] = came
        if b'"welcome"' in came and b'"welcome"' not in before:
            sock.send(self.join)
        if b'"joined"' in came:
            del self.begun[sock]
            self.joined += 1


def main(port: int, count: int, room: str) -> None:
    members = Members(port, room)
    opened = 0
    while members.joined < count:
        while opened < count and len(members.begun) < AT_ONCE:
            members.open_one()
            opened += 1
        for key, _ in members.selector.select():
            assert isinstance(key.fileobj, socket.socket)
            members.read(key.fileobj)
    print("joined", flush=True)
    members.selector.register(sys.stdin, selectors.EVENT_READ)
    while True:
        for key, _ in members.selector.select():
            if isinstance(key.fileobj, socket.socket):
                members.read(key.fileobj)
            elif sys.stdin.readline():
                print(members.received, flush=True)
            else:
                return


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
