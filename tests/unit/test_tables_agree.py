"""The tables in the code agree with each other, or the build fails."""

from __future__ import annotations

import inspect

from realtime.handlers import HANDLERS
from realtime.protocol import envelope, errors, messages
from realtime.protocol.closing import CLOSE_CODES
from realtime.protocol.envelope import Envelope


def all_subclasses(cls: type) -> set[type]:
    direct: list[type] = cls.__subclasses__()
    return {*direct, *(each for sub in direct for each in all_subclasses(sub))}


def test_every_command_has_a_wire_name_and_a_handler() -> None:
    """And no handler stands for something that is no command."""
    assert set(messages.COMMANDS) == set(HANDLERS) == all_subclasses(messages.Command)
    names = [kind.__struct_config__.tag for kind in messages.COMMANDS]
    assert len(set(names)) == len(names)
    assert all(inspect.iscoroutinefunction(handler) for handler in HANDLERS.values())


def test_every_outbound_message_has_a_wire_name_of_its_own() -> None:
    """So that a client can tell them apart."""
    assert set(messages.OUTBOUND) == all_subclasses(messages.Outbound) - {messages.Reply}
    names = [kind.__struct_config__.tag for kind in messages.OUTBOUND]
    assert len(set(names)) == len(names)


def test_every_envelope_can_be_read() -> None:
    """Each type of envelope is known to the decoder."""
    assert set(envelope.AnyEnvelope.__args__) == all_subclasses(Envelope) - {envelope.Order}


def test_every_refusal_is_in_the_table_of_errors() -> None:
    """With a code and a message of its own."""
    assert set(errors.ERRORS) == all_subclasses(errors.CommandRefused)
    codes = [error.code for error in errors.ERRORS]
    assert len(set(codes)) == len(codes)
    assert all(error.code and error().message for error in errors.ERRORS)


def test_every_close_code_has_a_name_of_its_own() -> None:
    """1001 is used twice, with different reasons."""
    assert len({close.name for close in CLOSE_CODES}) == len(CLOSE_CODES)
    assert len({(close.code, close.reason) for close in CLOSE_CODES}) == len(CLOSE_CODES)
