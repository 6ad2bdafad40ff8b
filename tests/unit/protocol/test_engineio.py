"""Packets, payloads, requests and deadlines of Engine.IO."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.protocol.engineio import (
    BadPayload,
    Deadlines,
    Refusal,
    Refused,
    Request,
    Transport,
    decode_payload,
    encode_payload,
    open_packet,
    read_query,
)
from realtime.protocol.frames import BinaryMessage


@pytest.mark.parametrize(
    ("query", "refusal"),
    [
        (b"transport=polling", Refusal.UNSUPPORTED_VERSION),
        (b"EIO=3&transport=polling", Refusal.UNSUPPORTED_VERSION),
        (b"EIO=4&EIO=4&transport=polling", Refusal.UNSUPPORTED_VERSION),
        (b"EIO=4", Refusal.UNKNOWN_TRANSPORT),
        (b"EIO=4&transport=webtransport", Refusal.UNKNOWN_TRANSPORT),
        (b"\xff=1&EIO=4&transport=%ff", Refusal.UNKNOWN_TRANSPORT),
    ],
)
def test_a_request_that_is_no_good_is_refused(query: bytes, refusal: Refusal) -> None:
    """With the reason that official clients know."""
    with pytest.raises(Refused) as refused:
        read_query(query)
    assert refused.value.refusal is refusal
    assert refusal.status == 400
    assert json.loads(refusal.body) == {"code": refusal.value[0], "message": refusal.value[1]}


def test_a_request_says_its_transport_and_its_session() -> None:
    """Whatever else is in the query."""
    assert read_query(b"EIO=4&transport=websocket&t=x&b64=1") == Request(Transport.WEBSOCKET, None)
    assert read_query(b"EIO=4&transport=polling&sid=a.b.c") == Request(Transport.POLLING, "a.b.c")


def test_only_polling_has_an_upgrade() -> None:
    """And the times are milliseconds."""
    options = {"ping_interval_seconds": 0.3, "ping_timeout_seconds": 20.0, "max_payload_bytes": 7}
    for transport, upgrades in ((Transport.POLLING, ["websocket"]), (Transport.WEBSOCKET, [])):
        packet = open_packet("s", transport, **options)  # type: ignore[arg-type]
        assert json.loads(packet[1:]) == {
            "sid": "s",
            "upgrades": upgrades,
            "pingInterval": 300,
            "pingTimeout": 20_000,
            "maxPayload": 7,
        }


packets = st.one_of(
    st.text(min_size=1).filter(lambda text: "\x1e" not in text and text[0] != "b").map(str.encode),
    st.binary().map(BinaryMessage),
)


@given(st.lists(packets, min_size=1))
def test_what_is_encoded_is_decoded(payload: list[bytes]) -> None:
    """Texts and bytes, in their order."""
    back = decode_payload(encode_payload(payload))
    assert back == payload
    assert [type(each) for each in back] == [type(each) for each in payload]


@pytest.mark.parametrize("body", [b"bAQ", b"b!!!!", b"4\xff", b"4ok\x1eb=="])
def test_a_body_that_is_no_payload_is_refused(body: bytes) -> None:
    """Broken base64, broken UTF-8."""
    with pytest.raises(BadPayload):
        decode_payload(body)


def test_deadlines_expire_in_order_once() -> None:
    """Who starts again waits from then on; who stopped does not expire."""
    deadlines: Deadlines[str] = Deadlines(10)
    for at, name in enumerate("abcd"):
        deadlines.start(name, at)
    deadlines.start("a", 5)
    assert deadlines.stop("c")
    assert not deadlines.stop("c")
    assert deadlines.expired(10.9) == []
    assert deadlines.expired(13) == ["b", "d"]
    assert deadlines.expired(13) == []
    assert ("a" in deadlines, len(deadlines)) == (True, 1)
    assert deadlines.expired(15) == ["a"]
