"""Thousands of clients in a process of their own: silent ones, which answer pings and closes as clients do.

Its command line: `python -m tests.acceptance.limits.fleet PORT`. Each line on its standard input is a question, each
line on its standard output the answer, in JSON; it ends with its standard input.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import selectors
import socket
import sys
import time
from collections import Counter

from websockets.frames import Close, Opcode

from tests.acceptance.engine.peer import PONG, FrameParser, close, frame
from tests.support.answering import AnsweringProcess

AT_ONCE = 200  # handshakes under way; well below the listen backlog


class Fleet(AnsweringProcess):
    """The process, for the test that started it."""

    def __init__(self, port: int) -> None:
        super().__init__("tests.acceptance.limits.fleet", port)

    def open(self, count: int) -> dict[str, float]:
        """So many clients more: how many were welcomed, and refused, and the seconds that it took."""
        answer: dict[str, float] = json.loads(self.ask(f"open {count}"))
        return answer

    @property
    def closes(self) -> dict[str, int]:
        """How the clients ended so far that have ended: how often each code with its reason."""
        answer: dict[str, int] = json.loads(self.ask("closes"))
        return answer


class Ship:
    """One client."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.parser: FrameParser | None = None  # after the handshake
        self.head = b""
        self.end = ""
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.send(
            f"GET /ws/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def read(self) -> None:
        """Whatever came."""
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self.end = self.end or "1006"
        elif self.parser is None:
            self._shake_hands(data)
        else:
            self._parse(data)

    def _shake_hands(self, data: bytes) -> None:
        self.head += data
        head, separator, rest = self.head.partition(b"\r\n\r\n")
        if separator:
            status = head.split()[1].decode()
            if status == "101":
                self.parser, self.head = FrameParser(), b""
                self._parse(rest)
            else:
                self.end = f"HTTP {status}"

    def _parse(self, data: bytes) -> None:
        assert self.parser is not None
        self.parser.feed(data)
        while self.parser.frames:
            came = self.parser.frames.popleft()
            if came.opcode is Opcode.PING:
                self.socket.send(frame(PONG, bytes(came.data)))
            elif came.opcode is Opcode.CLOSE:
                closed = Close.parse(bytes(came.data))
                self.end = f"{int(closed.code)} {closed.reason}"
                self.socket.send(close(closed.code))


class Sea:
    """All of them, inside the process."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.selector = selectors.DefaultSelector()
        self.closes: Counter[str] = Counter()

    def open(self, count: int) -> dict[str, float]:
        began = time.monotonic()
        before = self.closes.copy()
        launched = welcomed = 0
        pending: set[Ship] = set()
        while launched < count or pending:
            while launched < count and len(pending) < AT_ONCE:
                ship = Ship(self.port)
                self.selector.register(ship.socket, selectors.EVENT_READ, ship)
                pending.add(ship)
                launched += 1
            self.turn()
            arrived = {ship for ship in pending if ship.parser is not None or ship.end}
            welcomed += sum(ship.parser is not None for ship in arrived)
            pending -= arrived
        refused = self.closes["HTTP 503"] - before["HTTP 503"]
        return {"welcomed": welcomed, "refused": refused, "seconds": time.monotonic() - began}

    def turn(self, timeout: float = 1.0) -> bool:
        """Whatever is there to read; whether there is a question."""
        is_asked = False
        for key, _ in self.selector.select(timeout):
            ship = key.data
            if ship is None:
                is_asked = True
                continue
            ship.read()
            if ship.end:
                self.closes[ship.end] += 1
                self.selector.unregister(ship.socket)
                ship.socket.close()
        return is_asked


def main(port: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sea = Sea(port)
    sea.selector.register(sys.stdin, selectors.EVENT_READ, None)
    while True:
        if not sea.turn():
            continue
        question = sys.stdin.readline()
        if not question:
            return
        answer = sea.open(int(question.split()[1])) if question.startswith("open") else sea.closes
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
