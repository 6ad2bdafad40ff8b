"""Messages that were right once: each has one to three things changed about it, at random."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

STRANGE = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    "室🙂".encode(),
    b'"',
    b"\\",
    b"\\ud800",
    b"{}",
    b"[]",
    b"null",
    b"1e999",
    b"-",
    b"9" * 400,
    b"[" * 300,
    b'{"a":' * 300,
    b'"__proto__"',
    b"\x1e",
    b"\r\n",
    b"4",
    b"51-",
    b"99999999999-",
]


def mutated(rng: random.Random, valid: bytes) -> bytes:
    """Another message, nearly the same."""
    for _ in range(rng.randint(1, 3)):
        valid = rng.choice(CHANGES)(rng, valid)
    return valid[:4_096]


def _flip(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text) + 1)
    return text[:at] + bytes([rng.randrange(256)]) + text[at + 1 :]


def _cut(rng: random.Random, text: bytes) -> bytes:
    begin, end = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    return text[:begin] + text[end:]


def _end_early(rng: random.Random, text: bytes) -> bytes:
    return text[: rng.randrange(len(text) + 1)]


def _repeat(rng: random.Random, text: bytes) -> bytes:
    begin, end = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    return text[:end] + text[begin:end] * rng.randint(1, 5) + text[end:]


def _insert(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(STRANGE) + text[at:]


def _replace_value(rng: random.Random, text: bytes) -> bytes:
    """What stands between two of JSON's own characters."""
    marks = [at for at, byte in enumerate(text) if byte in b'{}[]":,']
    if len(marks) < 2:
        return _insert(rng, text)
    index = rng.randrange(len(marks) - 1)
    return text[: marks[index] + 1] + rng.choice(STRANGE) + text[marks[index + 1] :]


CHANGES: Sequence[Callable[[random.Random, bytes], bytes]] = (_flip, _cut, _end_early, _repeat, _insert, _replace_value)

COMMANDS = [
    b'{"type":"ping","ref":1}',
    b'{"type":"join","room":"lobby","members":true,"ref":"a"}',
    b'{"type":"leave","room":"lobby","ref":2}',
    b'{"type":"room","room":"lobby","data":{"text":"hello","n":[1,2.5,null,true]},"echo":true,"ref":3}',
    b'{"type":"broadcast","data":"hello","ref":4}',
    b'{"type":"private","to":"user:1","data":{"a":"b"},"ref":5}',
    b'{"type":"private","to":"n1-abcdef.AAAAAAAAAAAAAAAAAAAAAA","data":0}',
    b'{"type":"authenticate","token":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.AAAA","ref":6}',
]
"""Valid ones of `/ws/`."""

PACKETS = [
    b"2",
    b"3",
    b"40",
    b'40{"token":"x"}',
    b"40/custom,",
    b"41",
    b'42["join","lobby"]',
    b'4217["join","lobby"]',
    b'42["leave","lobby"]',
    b'423["room","lobby",{"a":[1,2,3]}]',
    b'42["private","user:1","hello"]',
    b'42["message",1,"2",{"3":[4,null]}]',
    b"431[]",
    b'43/custom,12["ok"]',
    b'451-["message",{"_placeholder":true,"num":0}]',
    b'452-/custom,3["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]',
    b"461-0[]",
    b'44{"message":"no"}',
]
"""Valid ones of Engine.IO and Socket.IO."""
