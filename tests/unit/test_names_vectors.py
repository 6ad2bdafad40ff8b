"""The test vectors of docs/protocol.md, for authors in other languages, are what our own functions do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from realtime.protocol.names import group_of_room, group_of_user, is_room_name

PROTOCOL = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
ROW = re.compile(r"\| `(?P<name>\".*?\")` \| `?(?P<value>.*?)`? \|")


def vectors(heading: str) -> list[tuple[str, str]]:
    """The rows of the one table that begins with ``heading``: a name, written as JSON, and what belongs to it."""
    _, found, rest = PROTOCOL.read_text().partition(f"\n{heading}\n|---|---|\n")
    assert found, f"docs/protocol.md has no table {heading!r}"
    rows = [ROW.fullmatch(line) for line in rest[: rest.index("\n\n")].splitlines()]
    assert all(rows), heading
    return [(json.loads(row["name"]), row["value"]) for row in rows if row]


ROOMS = vectors("| room | group |")


@pytest.mark.parametrize(("room", "group"), ROOMS)
def test_a_room_has_the_group_of_its_vector(room: str, group: str) -> None:
    """Each room of the table is a name, and maps to the group beside it."""
    assert is_room_name(room)
    assert group_of_room(room) == group


@pytest.mark.parametrize(("user", "group"), vectors("| user | group |"))
def test_a_user_has_the_group_of_its_vector(user: str, group: str) -> None:
    """Each user of the table maps to the group beside it."""
    assert group_of_user(user) == group


@pytest.mark.parametrize(("name", "why"), vectors("| not a room | why |"))
def test_what_is_listed_as_no_room_is_none(name: str, why: str) -> None:
    """Each name of the table is refused."""
    assert not is_room_name(name), why


def test_the_vectors_cover_both_forms() -> None:
    """Readable and hashed groups, the longest name, composed and decomposed letters, and a character beyond the BMP."""
    rooms = dict(ROOMS)
    assert {group[:5] for group in rooms.values()} == {"rt.r.", "rt.h."}
    assert {"x" * 64, "caf\u00e9", "cafe\u0301", "\U0001f600"} <= rooms.keys()
    assert len(set(rooms.values())) == len(rooms)
