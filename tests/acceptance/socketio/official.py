"""The official Socket.IO client in a Node.js process of its own."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any, Self

from tests.support.npm import node_with
from tests.support.servers import die_with_parent

DEADLINE_SECONDS = 30.0

Told = dict[str, Any]


class OfficialClient:
    """`told` is everything that happened, in order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.told: list[Told] = []
        self._taken = 0
        self._numbers = itertools.count(1)
        self._something = asyncio.Event()
        self._reader = asyncio.create_task(self._read(), name="official client")

    @classmethod
    async def start(cls, url: str, **options: Any) -> Self:
        node, directory = await asyncio.to_thread(node_with, "client/socketio")
        process = await asyncio.create_subprocess_exec(
            node, "talk.js", url, json.dumps(options), cwd=directory, limit=1 << 24,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, preexec_fn=die_with_parent(),
        )  # fmt: skip
        return cls(process)

    async def connected(self) -> Told:
        """Wait for the next connection: the client's id and its transport."""
        return await self.take(lambda told: "connect" in told, "a connection")

    async def ask(self, event: str, *arguments: Any) -> Any:
        """Emit, and wait for the acknowledgement: its one argument."""
        number = next(self._numbers)
        await self._say(["ask", number, event, *arguments])
        told = await self.find(lambda told: told.get("ack") == number, f"an acknowledgement of {event}")
        assert told["error"] is None, told
        return told["args"][0]

    async def do(self, event: str, *arguments: Any) -> Any:
        answer = await self.ask(event, *arguments)
        assert answer["ok"] is True, answer
        return answer

    async def emit(self, event: str, *arguments: Any) -> None:
        await self._say(["emit", event, *arguments])

    async def event(self, name: str, *arguments: Any) -> None:
        """Wait for an event with these arguments."""
        wanted = {"event": name, "args": list(arguments)}
        await self.find(lambda told: told == wanted, str(wanted))

    async def take(self, matches: Callable[[Told], bool], what: str) -> Told:
        """The next that fits; what was before it does not fit any more."""
        index = await self._index(matches, what, self._taken)
        self._taken = index + 1
        return self.told[index]

    async def find(self, matches: Callable[[Told], bool], what: str) -> Told:
        """The first that fits, since the beginning."""
        return self.told[await self._index(matches, what, 0)]

    async def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await asyncio.wait([self._reader])

    async def _say(self, words: list[Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words).encode() + b"\n")
        await self.process.stdin.drain()

    async def _index(self, matches: Callable[[Told], bool], what: str, start: int) -> int:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while True:
                    self._something.clear()
                    for index in range(start, len(self.told)):
                        if matches(self.told[index]):
                            return index
                    assert not self._reader.done(), f"{what}: the client has ended; {self.told[-5:]}"
                    await self._something.wait()
        except TimeoutError:
            raise AssertionError(f"{what}: not in time; {self.told[-8:]}") from None

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.told.append(json.loads(line))
            self._something.set()
        self._something.set()
