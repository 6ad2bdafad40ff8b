"""A client for tests: a thin wrapper over the `websockets` library, which knows nothing of our code.

It reads all the time and keeps everything that came, in order. Every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable
from typing import Any, Self

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed

Message = dict[str, Any]

DEADLINE_SECONDS = 8.0  # for what takes milliseconds on an idle machine
REPLIES = frozenset({"pong", "joined", "left", "ack", "authenticated", "error"})


class NothingCame(AssertionError):
    """What was waited for did not come in time, or the connection ended before it did."""


class Client:
    """One connection. `received` has every message, `waiting` those that nobody has taken yet."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.texts: list[str] = []  # the same as `received`, as it came
        self.received: list[Message] = []
        self.waiting: list[Message] = []
        self.welcome: Message = {}
        self._refs = itertools.count(1)
        self._something = asyncio.Event()
        self._reader = asyncio.create_task(self._read(), name="client")

    @classmethod
    async def connect(cls, url: str, **options: Any) -> Self:
        """A connection that has been welcomed."""
        settings = {"proxy": None, "compression": None, "max_size": None, "ping_interval": None, **options}
        client = cls(await open_websocket(url, **settings))
        try:
            client.welcome = await client.expect("welcome")
        except BaseException:
            await client.close()
            raise
        return client

    @property
    def id(self) -> str:
        return str(self.welcome["id"])

    @property
    def node(self) -> str:
        return str(self.welcome["node"])

    # What the client sends

    async def send(self, type: str, **fields: Any) -> None:
        """A command without `ref`, unless one is given."""
        await self.connection.send(json.dumps({"type": type, **fields}))

    async def send_raw(self, message: str | bytes | Iterable[str]) -> None:
        """Any text or binary message; a list of texts is sent as one message in so many fragments."""
        await self.connection.send(message)

    async def ask(self, type: str, *, within: float = DEADLINE_SECONDS, **fields: Any) -> Message:
        """Send a command and return its reply, without the `ref`."""
        ref = f"r{next(self._refs)}"
        await self.send(type, ref=ref, **fields)
        reply = await self.take(lambda message: message.get("ref") == ref, f"a reply to {type}", within)
        return {name: value for name, value in reply.items() if name != "ref"}

    async def do(self, type: str, **fields: Any) -> Message:
        """The same for a command that must succeed."""
        reply = await self.ask(type, **fields)
        assert reply["type"] != "error", reply
        return reply

    async def join(self, *rooms: str, **fields: Any) -> Self:
        for room in rooms:
            await self.do("join", room=room, **fields)
        return self

    # What the client gets

    async def expect(self, type: str, *, within: float = DEADLINE_SECONDS, **fields: Any) -> Message:
        """Take the oldest waiting message of a type with these fields; wait for it if there is none yet."""
        wanted = {"type": type, **fields}
        return await self.take(lambda message: wanted.items() <= message.items(), str(wanted), within)

    async def take(self, matches: Callable[[Message], bool], what: str, within: float = DEADLINE_SECONDS) -> Message:
        try:
            async with asyncio.timeout(within):
                while True:
                    self._something.clear()
                    for index, message in enumerate(self.waiting):
                        if matches(message):
                            return self.waiting.pop(index)
                    self._require_open(what)
                    await self._something.wait()
        except TimeoutError:
            last = self.waiting[-5:]
            raise NothingCame(f"{what}: not within {within:g} s; {len(self.waiting)} waiting, last {last}") from None

    async def until(self, holds: Callable[[], bool], what: str, within: float = DEADLINE_SECONDS) -> None:
        """Wait until something holds that only a message can bring about."""
        try:
            async with asyncio.timeout(within):
                while not holds():
                    self._require_open(what)
                    self._something.clear()
                    await self._something.wait()
        except TimeoutError:
            raise NothingCame(f"{what}: not within {within:g} s; {len(self.received)} messages came") from None

    async def collect(self, type: str, count: int, within: float = DEADLINE_SECONDS) -> list[Message]:
        """Wait until so many messages of a type have come since the beginning, and return all of them."""
        await self.until(lambda: len(self.pushes(type)) >= count, f"{count} of {type}", within)
        return self.pushes(type)

    def pushes(self, *types: str) -> list[Message]:
        """Everything of these types that ever came (of all types but replies, when none is named)."""
        if types:
            return [message for message in self.received if message["type"] in types]
        return [message for message in self.received if message["type"] not in REPLIES | {"welcome"}]

    async def is_alive(self) -> bool:
        """Whether the node still answers here; what was sent before has been answered then, too."""
        reply = await self.ask("ping")
        return bool(reply["type"] == "pong")

    # The end

    async def closed(self, within: float = DEADLINE_SECONDS) -> tuple[int | None, str | None]:
        """Wait until the server ends the connection: its close code and reason."""
        done, _ = await asyncio.wait([self._reader], timeout=within)
        if not done:
            raise NothingCame(f"the end: not within {within:g} s")
        return self.connection.close_code, self.connection.close_reason

    @property
    def is_closed(self) -> bool:
        return self._reader.done()

    @property
    def close_code(self) -> int | None:
        return self.connection.close_code

    async def close(self) -> None:
        await self.connection.close()
        await asyncio.wait([self._reader])

    def abort(self) -> None:
        """Cut the connection without a word."""
        self.connection.transport.abort()

    def _require_open(self, what: str) -> None:
        if self._reader.done():
            self._reader.result()  # what came was not as it should be
            raise NothingCame(f"{what}: the connection has ended with {self.close_code}")

    async def _read(self) -> None:
        try:
            while True:
                text = await self.connection.recv()
                assert isinstance(text, str), f"a binary message came: {text!r:.80}"
                message = json.loads(text, parse_constant=_not_json)
                self.texts.append(text)
                self.received.append(message)
                self.waiting.append(message)
                self._something.set()
        except ConnectionClosed:
            pass
        finally:
            self._something.set()


def _not_json(constant: str) -> Any:
    raise AssertionError(f"{constant} came, which is not JSON")
