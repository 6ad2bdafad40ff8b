"""Decoding what clients send, and refusing what no reader could read."""

from __future__ import annotations

import json

import pytest

from realtime.protocol import codec, messages


def refused(text: bytes) -> tuple[str, str, object]:
    with pytest.raises(codec.RefusedText) as caught:
        codec.decode_command(text)
    return caught.value.refusal.code, caught.value.refusal.message, caught.value.ref


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (b'{"type":"ping","ref":1}', messages.Ping(ref=1)),
        (b'{"type":"join","room":"a","members":true,"ref":"x"}', messages.Join(room="a", members=True, ref="x")),
        (b'{"type":"leave","room":"\xc3\xa9"}', messages.Leave(room="é")),
        (b'{"type":"authenticate","token":"t"}', messages.Authenticate(token="t")),
        (b' {"room":"a" , "type":"join", "from":"forged"} ', messages.Join(room="a")),
    ],
)
def test_a_command_becomes_its_type_whatever_the_order_of_its_fields(text: bytes, command: object) -> None:
    """Fields may come in any order; unknown ones are ignored."""
    assert codec.decode_command(text) == command


def test_data_stays_the_bytes_that_came() -> None:
    """A payload is forwarded byte for byte, blanks and escapes included."""
    command = codec.decode_command(b'{"type":"broadcast","data":{ "a" : "\\u00e9" , "a":2}}')
    assert isinstance(command, messages.PublishBroadcast)
    assert bytes(command.data) == b'{ "a" : "\\u00e9" , "a":2}'


@pytest.mark.parametrize(
    "data",
    [
        b"{", b"", b"nul", b"NaN", b"Infinity", b"1e999", b"-1e999", b"9" * 5_000, b"9" * 400, b"-" + b"9" * 309,
        b'"\\ud800"', b'"\\ud800\\u0041"', b'"\xff"', b'"\xed\xa0\x80"', b'"a\nb"', b"01", b"[1,]",
        b"[" * 100_000 + b"]" * 100_000, b"[" * 129 + b"]" * 129, b'{"a":' * 200 + b"1" + b"}" * 200,
    ],
    ids=lambda data: data[:12].decode("latin1"),
)  # fmt: skip
def test_data_that_no_reader_could_read_is_bad_json(data: bytes) -> None:
    """NaN, huge numbers, lone surrogates, broken UTF-8 and depth bombs are refused, never raised."""
    code, message, _ = refused(b'{"type":"broadcast","ref":7,"data":' + data + b"}")
    assert code == "bad_json"
    assert message


@pytest.mark.parametrize(
    "data", [b"9" * 308, b"1e308", b"[" * 128 + b"]" * 128, b'"\\ud83d\\ude00"', b'"' + b"9" * 400 + b'"']
)
def test_data_at_the_border_is_taken(data: bytes) -> None:
    """The largest number, the deepest nesting, a surrogate pair, and digits inside a text."""
    codec.decode_command(b'{"type":"broadcast","data":' + data + b"}")


def test_a_refused_payload_still_answers_its_ref() -> None:
    """The client can tell which of its commands was refused."""
    assert refused(b'{"type":"broadcast","ref":"r","data":' + b"9" * 5_000 + b"}")[2] == "r"


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        (b"[]", "bad_message", "object"),
        (b'"x"', "bad_message", "object"),
        (b"{}", "bad_message", "type"),
        (b'{"type":1}', "bad_message", "type"),
        (b'{"type":"websocket.disconnect"}', "unknown_type", "websocket.disconnect"),
        (b'{"type":"join"}', "bad_message", "room"),
        (b'{"type":"join","room":5}', "bad_message", "room"),
        (b'{"type":"join","room":"a","members":"yes"}', "bad_message", "members"),
        (b'{"type":"room","room":"a"}', "bad_message", "data"),
        (b'{"type":"private","to":"","data":1}', "bad_message", "to"),
        (b'{"type":"private","to":"' + b"x" * 129 + b'","data":1}', "bad_message", "to"),
        (b'{"type":"ping","ref":[]}', "bad_message", "ref"),
        (b'{"type":"ping","ref":99999999999999999999}', "bad_message", "ref"),
        (b'{"type":"ping","ref":"' + b"x" * 129 + b'"}', "bad_message", "ref"),
        (b'{"type":"join","room":""}', "bad_room", "1 to 64"),
        (b'{"type":"join","room":"' + b"x" * 65 + b'"}', "bad_room", "1 to 64"),
        (b'{"type":"join","room":"a\\u0000"}', "bad_room", "control"),
        (b'{"type":"join","room":"a\\r\\nb"}', "bad_room", "control"),
        (b"", "bad_json", ""),
        (b"\x00", "bad_json", ""),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_message_is_refused_with_a_code_and_names_the_field(text: bytes, code: str, named: str) -> None:
    """What is wrong is said in words a developer can act on."""
    actual, message, _ = refused(text)
    assert actual == code
    assert named in message


def test_of_duplicate_keys_the_last_wins() -> None:
    """Also for the type itself."""
    assert codec.decode_command(b'{"type":"ping","type":"join","room":"a","room":"b"}') == messages.Join(room="b")


def test_an_error_reply_carries_what_the_client_needs() -> None:
    """Code, message, ref and retry_after; nothing that is not set."""
    from realtime.protocol.errors import NotJoined, RateLimited

    assert json.loads(codec.encode_error(RateLimited(retry_after=1.5), "r")) == {
        "type": "error",
        "code": "rate_limited",
        "message": "Too many commands; wait for retry_after seconds.",
        "retry_after": 1.5,
        "ref": "r",
    }
    assert set(json.loads(codec.encode_error(NotJoined(), None))) == {"type", "code", "message"}
