"""The classes in docs/permissions.md do what the page says."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from realtime.grants import Grants
from realtime.instrument import Instrument
from realtime.judge import QUESTIONS, Judge, permissions_named
from realtime.permissions import Caller
from realtime.protocol.errors import CommandRefused, Forbidden
from tests.support.tables import table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "permissions.md"
BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
MODULE = "permissions_of_the_page"


def blocks(kind: str) -> list[str]:
    return [found["text"] for found in BLOCK.finditer(PAGE.read_text()) if found["kind"] == kind]


@pytest.fixture
def module() -> Iterator[ModuleType]:
    """The classes of the page, where a dotted path finds them."""
    made = sys.modules[MODULE] = ModuleType(MODULE)
    for text in blocks("python"):
        exec(compile(text, PAGE, "exec", dont_inherit=True), made.__dict__)
    yield made
    del sys.modules[MODULE]


def test_the_setting_is_spelt_right(module: ModuleType) -> None:
    """And every block of the page is known to a test."""
    from realtime.conf import load

    load(module.REALTIME)
    assert len(blocks("python")) == 3
    assert len(blocks("verdicts")) == 1


@pytest.mark.parametrize("line", blocks("verdicts")[0].splitlines())
async def test_verdicts(module: ModuleType, line: str) -> None:
    """Who may do what in which room, as the page lists it."""
    who, action, room, answer = re.split(r"  +", line)
    _, user, *permissions = who.split() if who != "anonymous" else ("anonymous", None)
    judge = Judge(permissions_named(f"{MODULE}.ShopPermissions"), Instrument())
    grants = Grants(1, read=lambda user, permission: permission in permissions)
    caller = Caller(user, "", "id", "127.0.0.1", "websocket", grants)
    assert await permits(judge, caller, action, room) is (answer == "yes")


async def permits(judge: Judge, caller: Caller, action: str, room: str) -> bool:
    try:
        pending = getattr(judge, action)(caller, room)
        if pending is not None:
            await pending
    except Forbidden:
        return False
    return True


@pytest.fixture
def users(sqlite_file: Path) -> list[str]:
    """Ann is in the chess club, Ben is not."""
    from django.contrib.auth.models import Group, User

    ann, ben = User.objects.create_user("ann"), User.objects.create_user("ben")
    ann.groups.add(Group.objects.create(name="chess"))
    return [str(ann.pk), str(ben.pk)]


async def test_the_class_of_ones_own(module: ModuleType, users: list[str]) -> None:
    """Its members are those of a Django group."""
    judge = Judge(permissions_named(f"{MODULE}.ClubPermissions"), Instrument())
    callers = [judge.caller(user, "", "id", "", "websocket") for user in users]
    anonymous = judge.caller(None, "", "", "", "socketio")
    assert [await permits(judge, each, "join", "private-club-chess") for each in callers] == [True, False]
    assert [await permits(judge, each, "join", "lobby") for each in (*callers, anonymous)] == [True, True, False]
    assert await permits(judge, callers[0], "publish", "private-club-chess")
    assert [await permits(judge, anonymous, "connect", namespace) for namespace in ("/", "/members")] == [True, False]
    with pytest.raises(CommandRefused, match="Write to users"):
        judge.send_private(callers[0], "n-1.AAAAAAAAAAAAAAAAAAAAAA")
    assert judge.send_private(callers[0], "user:8") is None


def test_the_tables_of_the_page() -> None:
    """Every method has its row, with its arguments, and every fact of a caller."""
    methods = [re.sub("[`()]", " ", row["method"]).split()[0] for row in table("permissions.md", "method", "asked")]
    assert methods == list(QUESTIONS)
    text = PAGE.read_text()
    facts = [name for name in dir(Caller) if not name.startswith("_") and name != "grants"]
    assert all(f"`{name}" in text or f"await {name}" in text for name in facts)
