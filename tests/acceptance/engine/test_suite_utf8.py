"""Autobahn test suite, group 6: UTF-8 is checked, as early as its first wrong byte is here."""

from __future__ import annotations

import pytest

from tests.acceptance.engine.conftest import Echo
from tests.acceptance.engine.peer import CONTINUATION, TEXT, frame, text

KOSME = "κόσμε"
VALID = {
    "6.2": "Hello-µ@ßöäüàá-UTF-8!!",
    "6.5": KOSME,
    "6.6 one of each width": "$¢€\U00024b62",
    "6.7 first of each length": "\0\u0080\u0800\U00010000",
    "6.9 last of each length": "\x7f\u07ff\uffff\U0010ffff",
    "6.11 around the surrogates": "\ud7ff\ue000\ufffd\U0010ffff",
    "6.22 noncharacters": "\ufffe\uffff\U0001fffe\U0001ffff\U0002fffe\U0010ffff",
    "6.23 specials": "\ufff9\ufffa\ufffb\ufffc\ufffd",
    "byte order mark": "\ufeff",
}
INVALID = {
    "6.3 a surrogate inside": KOSME.encode() + b"\xed\xa0\x80edited",
    "6.8 five bytes": b"\xf8\x88\x80\x80\x80",
    "6.8 six bytes": b"\xfc\x84\x80\x80\x80\x80",
    "6.10 beyond the last": b"\xf4\x90\x80\x80",
    "6.12 continuation byte 80": b"\x80",
    "6.12 continuation byte bf": b"\xbf",
    "6.12 seven of them": b"\x80\xbf\x80\xbf\x80\xbf\x80",
    "6.13 lonely start": b"\xc2 \xc3 \xdf ",
    "6.14 last byte missing, 2": b"\xc2",
    "6.14 last byte missing, 3": b"\xe0\xa0",
    "6.14 last byte missing, 4": b"\xf0\x90\x80",
    "6.15 all of those": b"\xc2\xe0\xa0\xf0\x90\x80",
    "6.16 fe": b"\xfe",
    "6.16 ff": b"\xff",
    "6.17 overlong /": b"\xc0\xaf",
    "6.17 overlong / in three": b"\xe0\x80\xaf",
    "6.17 overlong / in four": b"\xf0\x80\x80\xaf",
    "6.18 largest overlong": b"\xc1\xbf",
    "6.19 overlong NUL": b"\xc0\x80",
    "6.20 first high surrogate": b"\xed\xa0\x80",
    "6.20 last low surrogate": b"\xed\xbf\xbf",
    "6.21 a pair of surrogates": b"\xed\xa0\x80\xed\xb0\x80",
}


@pytest.mark.parametrize("name", VALID)
def test_valid_text(echo: Echo, name: str) -> None:
    """It comes back as it came: whole, in fragments of one byte, and in segments of one byte."""
    message = VALID[name].encode("utf-8", "surrogatepass")
    echo.send(text(message))
    pieces = [message[index : index + 1] for index in range(len(message))]
    fragments = [frame(CONTINUATION if index else TEXT, piece, fin=False) for index, piece in enumerate(pieces)]
    echo.send(*fragments, frame(CONTINUATION, b""))
    for byte in text(message):
        echo.send(bytes([byte]))
    assert [echo.payload() for _ in range(3)] == [message] * 3


@pytest.mark.parametrize("name", INVALID)
@pytest.mark.parametrize("around", [b"", b"ascii"])
def test_invalid_text(echo: Echo, name: str, around: bytes) -> None:
    """1007, after what came before it and instead of it."""
    echo.send_behind_a_message(text(around + INVALID[name] + around), text("after"))
    assert echo.closed()[0] == 1007


@pytest.mark.parametrize("name", INVALID)
def test_invalid_text_in_fragments(echo: Echo, name: str) -> None:
    """6.3.2: a fragment for each byte makes no difference."""
    message = INVALID[name]
    pieces = [message[index : index + 1] for index in range(len(message))]
    fragments = [frame(CONTINUATION if index else TEXT, piece, fin=False) for index, piece in enumerate(pieces)]
    echo.send(*fragments, frame(CONTINUATION, b""))
    assert echo.closed()[0] == 1007


@pytest.mark.parametrize(
    "sent",
    [
        frame(TEXT, KOSME.encode() + b"\xf4", fin=False) + frame(CONTINUATION, b"\x90", fin=False),  # 6.4.1
        frame(TEXT, KOSME.encode() + b"\xf4\x90", fin=False),  # 6.4.2
        frame(TEXT, KOSME.encode() + b"\xf4\x90\x80\x80" + b"x" * 100)[:-100],  # 6.4.3
        frame(TEXT, b"x" * 50 + b"\xff" + b"x" * 70_000)[:100],  # a long frame, broken at its beginning
    ],
    ids=["between fragments", "inside a fragment", "inside a frame", "inside a long frame"],
)
def test_invalid_text_fails_fast(echo: Echo, sent: bytes) -> None:
    """6.4.1-6.4.4: the message need not have ended; its first impossible byte is enough."""
    echo.send(sent)
    assert echo.closed()[0] == 1007


def test_a_character_over_two_fragments(echo: Echo) -> None:
    """6.2.2: valid text may be cut inside a character."""
    message = VALID["6.2"].encode()
    border = message.index("ß".encode()) + 1
    echo.send(frame(TEXT, message[:border], fin=False), frame(CONTINUATION, message[border:]))
    assert echo.payload() == message
