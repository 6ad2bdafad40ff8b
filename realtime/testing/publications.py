"""What Django code published by ``realtime.api``, without a node and a backplane."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from realtime import door
from realtime.protocol.envelope import BroadcastEnvelope, Envelope, PrivateEnvelope, RoomEnvelope


class _Anything:
    def __repr__(self) -> str:
        return "anything"


ANYTHING: Final = _Anything()


@dataclass(frozen=True, slots=True)
class Publication:
    """One call of ``publish_room``, ``publish_private`` or ``publish_broadcast``: the last one has neither room nor to.

    ``data`` as clients get it: what JSON made of it.
    """

    room: str | None
    to: str | None
    data: Any


@contextmanager
def published(room: str | None = None, *, to: str | None = None) -> Iterator[list[Publication]]:
    """What is published meanwhile: the list fills as it happens. With ``room`` or ``to`` only what is for them.

    Works for all threads and event loops of the process. Where a node runs its clients get it as well.
    """
    found: list[Publication] = []

    def hear(envelope: Envelope) -> None:
        publication = _publication(envelope)
        if publication is not None and (room is None or publication.room == room) and to in (None, publication.to):
            found.append(publication)

    door.overheard.append(hear)
    try:
        yield found
    finally:
        door.overheard.remove(hear)


@contextmanager
def assert_published(
    room: str | None = None,
    data: object = ANYTHING,
    *,
    to: str | None = None,
    times: int | None = None,
) -> Iterator[list[Publication]]:
    """Within it something is published to ``room``, or with ``to`` to a connection or user, else to everybody.

    ``data``: exactly this. ``times``: so often, and not just once at least.
    """
    with published() as everything:
        yield everything
    found = [each for each in everything if _is_meant(each, room, to, data)]
    if (len(found) != times) if times is not None else not found:
        often = "" if times is None else f" {times} times, but {len(found)} times"
        raise AssertionError(f"not published {_where(room, to)}: {data!r}{often}\n{_listed(everything)}")


@contextmanager
def assert_not_published(
    room: str | None = None, data: object = ANYTHING, *, to: str | None = None
) -> Iterator[list[Publication]]:
    """Within it nothing of the kind is published; without arguments nothing at all."""
    with published() as everything:
        yield everything
    is_all = room is None and to is None
    found = [each for each in everything if _is_meant(each, *((each.room, each.to) if is_all else (room, to)), data)]
    if found:
        raise AssertionError(f"published, though it should not be:\n{_listed(found)}")


def _publication(envelope: Envelope) -> Publication | None:
    match envelope:
        case RoomEnvelope():
            return Publication(envelope.room, None, json.loads(bytes(envelope.data)))
        case PrivateEnvelope():
            return Publication(None, envelope.to, json.loads(bytes(envelope.data)))
        case BroadcastEnvelope():
            return Publication(None, None, json.loads(bytes(envelope.data)))
    return None


def _is_meant(publication: Publication, room: str | None, to: str | None, data: object) -> bool:
    if (publication.room, publication.to) != (room, to):
        return False
    return data is ANYTHING or publication.data == data or publication.data == _as_json(data)


def _as_json(data: object) -> object:
    """What clients would get: dates as text, tuples as lists."""
    return json.loads(msgspec.json.encode(data, enc_hook=str))


def _where(room: str | None, to: str | None) -> str:
    return f"to the room {room!r}" if room is not None else f"to {to!r}" if to is not None else "to everybody"


def _listed(publications: list[Publication]) -> str:
    if not publications:
        return "Nothing was published."
    lines = [f"  {_where(each.room, each.to)}: {each.data!r}" for each in publications]
    return "\n".join(["What was published:", *lines])
