"""A project's own commands: what may be registered, and what clients may send."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime
from typing import Annotated, Any

import msgspec
import pytest

from realtime import commands
from realtime.handlers import HANDLERS
from realtime.protocol import codec, errors, messages
from realtime.protocol.errors import ERRORS


@pytest.fixture
def registered() -> Iterator[commands.Registry]:
    """A registry of this test alone."""
    registry = commands.Registry()
    registry.install()
    yield registry
    commands.registry.install()


async def move(client: commands.Client, *, order: int, to: Annotated[str, msgspec.Meta(max_length=8)] = "") -> None:
    """A handler."""


async def carry(client: commands.Client, *, data: dict[str, Any], room: int, own_x: int = 0) -> None:
    """Its fields are called as some of the protocol's, which mean other things."""


def refusal(text: bytes) -> tuple[str, str, Any]:
    with pytest.raises(codec.RefusedText) as caught:
        codec.decode_command(text)
    return caught.value.refusal.code, caught.value.refusal.message, caught.value.ref


def test_fields_are_those_of_the_handler(registered: commands.Registry) -> None:
    """By their names and types, with defaults; unknown ones are left out, as everywhere in the protocol."""
    registered.add("order.move", move)
    found: Any = codec.decode_command(b'{"type":"order.move","order":7,"ref":"r","later":1}')
    assert (type(found), found.own_order, found.own_to, found.ref) == (next(iter(HANDLERS.own)), 7, "", "r")


def test_fields_may_be_called_as_those_of_the_protocol(registered: commands.Registry) -> None:
    """A ``room`` that is a number is no bad room, and ``data`` that was decoded is no text to check."""
    registered.add("order.carry", carry)
    found: Any = codec.decode_command(b'{"type":"order.carry","data":{"a":[1]},"room":5,"own_x":2}')
    assert (found.own_data, found.own_room, found.own_own_x) == ({"a": [1]}, 5, 2)


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        (b'{"type":"order.move","ref":3}', "bad_message", "`order`"),
        (b'{"type":"order.move","order":"7","ref":3}', "bad_message", "`order`"),
        (b'{"type":"order.move","order":7,"to":"123456789","ref":3}', "bad_message", "`to`"),
        (b'{"type":"order.eat","order":7,"ref":3}', "unknown_type", "order.eat"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_its_field(
    registered: commands.Registry, text: bytes, code: str, told: str
) -> None:
    """With the names that the client knows."""
    registered.add("order.move", move)
    found = refusal(text)
    assert (found[0], found[2]) == (code, 3)
    assert told in found[1]


def test_broken_texts_are_what_they_are_for_other_commands(registered: commands.Registry) -> None:
    """No JSON, numbers without end, lone surrogates, and depth."""
    registered.add("order.carry", carry)
    deep = b'{"type":"order.carry","room":1,"data":{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}}"
    for text in (
        b'{"type":"order.carry","room":1,"data":{"a":NaN}}',
        b'{"type":"order.carry","room":1,"data":{"a":1e999}}',
        b'{"type":"order.carry","room":1,"data":{"a":"\xed\xa0\x80"}}',
        deep,
    ):
        assert refusal(text)[0] == "bad_json"


def test_of_a_repeated_type_the_last_counts(registered: commands.Registry) -> None:
    """As for the commands of the protocol."""
    registered.add("order.move", move)
    found: Any = codec.decode_command(b'{"type":"ping","order":7,"type":"order.move"}')
    assert found.own_order == 7


@pytest.mark.parametrize("name", ["join", "ping", "joined", "welcome", "missed", "error"])
def test_names_of_the_protocol_are_taken(registered: commands.Registry, name: str) -> None:
    """Those of its commands, and those of what a node sends."""
    with pytest.raises(ValueError, match="message of the protocol"):
        registered.add(name, move)


@pytest.mark.parametrize("name", ["move", "", ".", "a.", ".b", "Order.move", "a b.c", "a.b\n", "é.b", "a." + "b" * 63])
def test_names_that_cannot_be(registered: commands.Registry, name: str) -> None:
    """A dot keeps them apart from all that the protocol will ever have."""
    with pytest.raises(ValueError, match="needs a dot"):
        registered.add(name, move)


def test_a_name_is_taken_once(registered: commands.Registry) -> None:
    """And is free again when it was removed."""
    registered.add("order.move", move)
    with pytest.raises(ValueError, match="registered already"):
        registered.add("order.move", carry)
    registered.remove("order.move")
    assert refusal(b'{"type":"order.move","order":1}')[0] == "unknown_type"
    registered.add("order.move", carry)


def test_handlers_that_cannot_be_called(registered: commands.Registry) -> None:
    """They fail where they are registered, and name what is wrong."""

    async def no_client() -> None: ...
    async def positional(client: Any, order: int) -> None: ...
    async def untyped(client: Any, *, order) -> None: ...  # type: ignore[no-untyped-def]
    async def anything(client: Any, **fields: int) -> None: ...
    async def reserved(client: Any, *, ref: int) -> None: ...
    async def undecodable(client: Any, *, order: date | datetime) -> None: ...

    for handler in (no_client, positional, untyped, anything, reserved, undecodable):
        with pytest.raises(TypeError):
            registered.add("order.move", handler)
    registered.add("order.move", move)


def test_they_are_installed_together(registered: commands.Registry) -> None:
    """Nothing is known of a command before the applications are loaded, and all of one that is registered after."""
    early = commands.Registry()
    early.add("order.move", move)
    assert refusal(b'{"type":"order.move","order":1}')[0] == "unknown_type"
    early.install()
    codec.decode_command(b'{"type":"order.move","order":1}')
    early.add("order.carry", carry)
    assert len(HANDLERS.own) == 2


def test_the_protocols_own_tables_stay_what_they_are(registered: commands.Registry) -> None:
    """Own commands, their replies and their errors are in none of them."""
    registered.add("order.move", move)

    class Sold(commands.Refusal):
        """It is sold."""

        code = "sold"

    assert set(HANDLERS) == set(messages.COMMANDS)
    assert all(not issubclass(kind, messages.Command) for kind in HANDLERS.own)
    assert not issubclass(messages.OwnReply, messages.Outbound)
    assert not issubclass(Sold, errors.CommandRefused)


def test_codes_of_refusals() -> None:
    """One's own, and none of the protocol's, whose meaning is settled."""
    for bad in ("forbidden", "", "Sold", "sold out"):
        with pytest.raises(ValueError, match="code"):
            type("Bad", (commands.Refusal,), {"code": bad})
    assert commands.Refusal.code not in {each.code for each in ERRORS}


def test_replies_that_no_client_could_read() -> None:
    """Are a failure of the handler, not of the client."""
    with pytest.raises(ValueError, match="larger than"):
        commands._raw({"n": 10**309})
    assert bytes(commands._raw({"n": (1, 2), "x": math.nan})) == b'{"n":[1,2],"x":null}'
