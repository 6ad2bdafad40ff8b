"""A project's own commands, from a client to their handlers and back."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
from asgiref.sync import async_to_sync

from realtime import api, commands
from realtime.commands import Client, Refusal, command
from realtime.conf import DEVELOPMENT
from realtime.instrument import Instrument
from realtime.protocol.errors import Forbidden
from realtime.runtime import runtime
from realtime.testing import RealtimeClient, RealtimeNode, Refused


class Sold(Refusal):
    """It is sold."""

    code = "sold"


@pytest.fixture(autouse=True)
def own(request: pytest.FixtureRequest) -> Iterator[None]:
    """The commands of this file, for its tests."""

    @command("order.move")
    async def move(client: Client, *, order: int, to: str = "kitchen") -> dict[str, Any]:
        await client.publish_room("orders", {"moved": order}, echo=True)
        return {"order": order, "to": to, "by": client.user_id}

    @command("order.touch")
    async def touch(client: Client) -> None: ...

    @command("order.buy")
    async def buy(client: Client, *, order: int) -> None:
        if order == 1:
            raise Sold()
        if order == 2:
            raise Sold("Yesterday.", retry_after=1.5)
        if order == 3:
            raise Forbidden("Not yours.")
        raise ZeroDivisionError

    @command("order.thread")
    def plain(client: Client) -> str:
        async_to_sync(client.join)("orders")
        return threading.current_thread().name

    @command("order.raw")
    async def raw(client: Client, *, value: msgspec.Raw) -> Any:
        return value

    @command("order.rooms")
    async def rooms(client: Client, *, name: str) -> list[str]:
        await client.join(name)
        joined = client.rooms
        await client.leave(name)
        return [*joined, *client.rooms]

    @command("order.end")
    async def end(client: Client) -> None:
        await client.disconnect(4003, "Enough")

    yield
    for name in ("move", "touch", "buy", "thread", "raw", "rooms", "end"):
        commands.registry.remove(f"order.{name}")


@pytest.fixture
async def node() -> AsyncIterator[RealtimeNode]:
    async with RealtimeNode({"DEFAULTS": DEVELOPMENT}) as node:
        yield node


@pytest.fixture
async def client(node: RealtimeNode) -> AsyncIterator[RealtimeClient]:
    async with RealtimeClient() as client:
        yield client


async def test_a_reply_has_the_name_of_its_command(client: RealtimeClient) -> None:
    """The ref if there was one, and as ``data`` what the handler returned."""
    await client.send("order.move", order=7)
    assert await client.next() == {"type": "order.move", "data": {"order": 7, "to": "kitchen", "by": None}}
    assert await client.ask("order.move", order=8, to="bar") == {
        "type": "order.move",
        "ref": "test-1",
        "data": {"order": 8, "to": "bar", "by": None},
    }


async def test_nothing_returned_is_an_ack(client: RealtimeClient) -> None:
    """And without a ref nothing at all, as for the protocol's own."""
    assert await client.ask("order.touch") == {"type": "ack", "ref": "test-1"}
    await client.send("order.touch")
    assert await client.received() == []


async def test_what_a_handler_publishes_is_its_clients(client: RealtimeClient) -> None:
    """The sender is named, and need not be in the room."""
    async with RealtimeClient() as other:
        await other.join("orders")
        await client.ask("order.move", order=1)
        assert await other.next() == {"type": "room", "room": "orders", "from": client.id, "data": {"moved": 1}}


@pytest.mark.parametrize(
    ("order", "error"),
    [
        (1, {"code": "sold", "message": "It is sold."}),
        (2, {"code": "sold", "message": "Yesterday.", "retry_after": 1.5}),
        (3, {"code": "forbidden", "message": "Not yours."}),
        (4, {"code": "internal_error", "message": "The server failed on this command; the failure was logged."}),
    ],
)
async def test_refusals(client: RealtimeClient, order: int, error: dict[str, Any]) -> None:
    """One's own with its own code, those of the protocol, and a failure; the connection lives on."""
    await client.send("order.buy", order=order, ref=1)
    assert await client.next() == {"type": "error", "ref": 1, **error}
    await client.ping()


async def test_a_plain_handler_has_a_thread(client: RealtimeClient) -> None:
    """In which it may call the coroutines of the client."""
    assert (await client.ask("order.thread"))["data"] != threading.current_thread().name
    await api.apublish_room("orders", 1)
    assert (await client.next("room"))["data"] == 1


async def test_raw_json_is_looked_at_before(client: RealtimeClient) -> None:
    """A handler that takes it unread gets none that nobody could read."""
    assert (await client.ask("order.raw", value={"a": [1]}))["data"] == {"a": [1]}
    await client.send_text('{"type":"order.raw","value":[NaN],"ref":5}')
    assert (await client.next())["code"] == "bad_json"
    await client.send_text(f'{{"type":"order.raw","value":{"[" * 200}{"]" * 200},"ref":5}}')
    answer = await client.next()
    assert (answer["code"], answer["ref"]) == ("bad_json", 5)


async def test_rooms_of_a_client(client: RealtimeClient) -> None:
    """A handler may move it, and is refused as the client would be."""
    assert (await client.ask("order.rooms", name="a"))["data"] == ["a"]
    with pytest.raises(Refused, match="bad_room"):
        await client.ask("order.rooms", name="\n")


async def test_a_handler_may_end_the_connection(client: RealtimeClient) -> None:
    """With its own code."""
    await client.send("order.end")
    assert await client.closed() == (4003, "Enough")


async def test_they_count_as_others() -> None:
    """As messages of the connection, as commands handled, and by the code of their refusal."""

    class Seen(Instrument):
        handled = 0
        refused: list[str]

        def command_handled(self, seconds: float, size: int) -> None:
            self.handled += 1

        def command_refused(self, code: str) -> None:
            self.refused.append(code)

    async with RealtimeNode({"DEFAULTS": DEVELOPMENT}), RealtimeClient() as client:
        node = runtime().node
        assert node is not None
        node.instrument = seen = Seen()
        seen.refused = []
        await client.ask("order.touch")
        with pytest.raises(Refused, match="sold"):
            await client.ask("order.buy", order=1)
        assert (seen.handled, seen.refused) == (2, ["sold"])
        assert (await api.alist_connections()).connections[0].messages_in == 2


async def test_they_are_as_large_as_others_may_be() -> None:
    """COMMAND_MAX_BYTES."""
    async with RealtimeNode({"DEFAULTS": DEVELOPMENT, "COMMAND_MAX_BYTES": 256}), RealtimeClient() as client:
        await client.send("order.move", order=1, to="x" * 300)
        assert (await client.next())["code"] == "too_large"
