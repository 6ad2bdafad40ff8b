"""``manage.py stats``, on rows as nodes write them."""

from __future__ import annotations

import io
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from monitoring.cluster import DIED_LATELY, WORST
from monitoring.management.commands.stats import CLEAR, Command
from monitoring.tables import COLUMNS, HEAD, count, milliseconds, size, span
from realtime.models import Node, NodeState
from tests.support.databases import SQLITE, default_database
from tests.support.tables import DOCS, table

FIGURES = {
    "connections": 1200,
    "users": 30,
    "rooms": 4,
    "memory_bytes": 104857600,
    "backlog_bytes": 2048,
    "tracking_pending": 3,
    "rows_lost": 0,
    "messages_in_per_second": 12.5,
    "messages_out_per_second": 15000,
    "bytes_out_per_second": 1500000,
    "latency_p50_seconds": 0.0005,
    "latency_p99_seconds": 0.25,
    "lag_p50_seconds": 0.002,
    "lag_p99_seconds": 0.004,
    "loop_lag_max_seconds": 0.012,
}


def node(name: str, state: str = "ready", age: float = 2, **figures: float) -> Node:
    heard = timezone.now() - timedelta(seconds=age)
    return Node.objects.create(
        id=name,
        address="127.0.0.1:8081",
        version="0.1.0",
        started=heard - timedelta(hours=3, minutes=5),
        last_heartbeat=heard,
        state=state,
        statistics={**FIGURES, **figures},
    )


def stats(*arguments: str, status: int = 0, command: Command | None = None) -> str:
    out = io.StringIO()
    if status:
        with pytest.raises(SystemExit) as ended:
            call_command(command or "stats", *arguments, stdout=out)
        assert ended.value.code == status
    else:
        call_command(command or "stats", *arguments, stdout=out)
    return out.getvalue()


def cells(output: str, name: str) -> list[str]:
    """The line of a node without its age, which is between 2 and 59 seconds."""
    (line,) = [row for row in output.splitlines() if row.startswith(name)]
    found = [cell.strip() for cell in line.split("  ") if cell.strip()]
    (age,) = [cell for cell in found if re.fullmatch(r"≤?\d+s", cell)]
    assert 2 <= int(age.strip("≤s")) < 60
    return [cell for cell in found if cell != age]


@pytest.mark.django_db
def test_a_table_for_people() -> None:
    """A line for each node and one for all of them, with the age of the figures, in readable units."""
    node("n1-aaaa", age=2)
    node("n2-bbbb", age=7, connections=300, latency_p99_seconds=0.5)
    output = stats()
    assert cells(output, "n1-aaaa") == [
        "n1-aaaa", "ready", "3h 5m", "1,200", "30", "4", "12.5", "15,000", "1.4 MiB", "100 MiB", "2.0 KiB",
        "0.5", "250", "2.0", "4.0", "12.0", "3", "0",
    ]  # fmt: skip
    assert cells(output, "total") == [
        "total", "1,500", "≤60", "≤8", "25", "30,000", "2.9 MiB", "200 MiB", "4.0 KiB",
        "0.5", "500", "2.0", "4.0", "12.0", "6", "0",
    ]  # fmt: skip
    assert "UNHEALTHY" not in output


@pytest.mark.django_db
def test_json_for_machines() -> None:
    """Every figure of every node, its age, and the total; one line."""
    node("n1-aaaa", age=2, batch_p99=4)
    node("n2-bbbb", age=3)
    (text,) = stats("--json").splitlines()
    found = json.loads(text)
    assert found["healthy"] is True
    assert [each["id"] for each in found["nodes"]] == ["n1-aaaa", "n2-bbbb"]
    assert found["nodes"][0]["statistics"] == {**FIGURES, "batch_p99": 4}
    assert 2 <= found["nodes"][0]["age_seconds"] < 60
    assert (found["total"]["connections"], found["total"]["latency_p99_seconds"]) == (2400, 0.25)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("state", "age", "problem"),
    [
        ("interrupted", 2, "backplane is interrupted"),
        ("failed", 2, "must be restarted"),
        ("starting", 2, "not heard its own echo"),
        ("ready", 100, "silent for 10"),
        ("dead", 100, "died"),
    ],
)
def test_an_unhealthy_node_is_named_and_the_exit_status_is_1(state: str, age: float, problem: str) -> None:
    """With what is wrong with it; the healthy one is not named."""
    node("n1-aaaa")
    node("n2-bbbb", state=state, age=age)
    output = stats(status=1)
    (named,) = [row for row in output.splitlines() if row.startswith("UNHEALTHY")]
    assert named.startswith("UNHEALTHY n2-bbbb: ")
    assert problem in named
    assert json.loads(stats("--json", status=1))["healthy"] is False


@pytest.mark.django_db
def test_what_ended_is_not_shown() -> None:
    """Nodes that stopped, and those that died some time ago; one that drains is shown and healthy."""
    node("n1-aaaa", state="stopped")
    node("n2-bbbb", state="dead", age=DIED_LATELY.total_seconds() + 60)
    node("n3-cccc", state="draining")
    output = stats()
    assert "n1-aaaa" not in output
    assert "n2-bbbb" not in output
    assert "n3-cccc" in output


@pytest.mark.django_db
def test_the_dead_do_not_count() -> None:
    """What a dead node had is in no total."""
    node("n1-aaaa", connections=5)
    node("n2-bbbb", state=NodeState.DEAD, connections=7)
    assert json.loads(stats("--json", status=1))["total"]["connections"] == 5


@pytest.mark.django_db
def test_no_node_is_a_problem() -> None:
    """An empty table says so."""
    assert "no node has written its row" in stats(status=1)


@pytest.mark.django_db
def test_figures_that_a_node_does_not_have_are_left_open() -> None:
    """A node of another version, or one that has just started, has fewer."""
    Node.objects.create(
        id="n1", started=timezone.now(), last_heartbeat=timezone.now(), state="ready", statistics={"connections": 1}
    )
    found = stats().splitlines()[1].split()
    assert found[:2] == ["n1", "ready"]
    assert found[4] == "1"
    assert set(found[5:]) == {"-"}


@pytest.mark.django_db
def test_watch_shows_it_again_until_it_is_interrupted() -> None:
    """What happened meanwhile is in the next picture; the last one decides the exit status."""
    node("n1-aaaa")
    slept: list[float] = []

    class Watched(Command):
        @staticmethod
        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 3:
                raise KeyboardInterrupt
            node(f"later-{len(slept)}", state="ready" if len(slept) == 1 else "failed")

    output = stats("--watch", "2", status=1, command=Watched())
    assert slept == [2, 2, 2]
    assert [output.count(f"\n{name} ") for name in ("n1-aaaa", "later-1", "later-2")] == [3, 2, 1]
    assert CLEAR not in output  # it is no terminal


@pytest.mark.django_db
def test_a_terminal_is_cleared_between_two_pictures() -> None:
    """And a pipe is not."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    class Watched(Command):
        @staticmethod
        def sleep(seconds: float) -> None:
            raise KeyboardInterrupt

    node("n1-aaaa")
    out = Terminal()
    call_command(Watched(), "--watch", "1", stdout=out)
    assert out.getvalue().startswith(CLEAR)


def test_no_database_is_said(tmp_path: Any, django_db_blocker: Any) -> None:
    """An error in one line, which is exit status 1."""
    with (
        django_db_blocker.unblock(),
        default_database({**SQLITE, "NAME": str(tmp_path / "empty.sqlite3")}),
        pytest.raises(CommandError, match="The database does not answer: no such table"),
    ):
        call_command("stats", stdout=io.StringIO())


def test_columns_and_worst_figures_exist() -> None:
    """Every figure that the command names is one that nodes send."""
    figures = {row["figure"] for row in table("metrics.md", "figure", "meaning")}
    assert {column.figure for column in COLUMNS} < figures
    assert figures > WORST


def test_the_documented_output_has_the_columns_of_the_real_one() -> None:
    """docs/operations.md shows what the command prints."""
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    heads = [tuple(re.split(" {2,}", row)) for row in page.splitlines() if row.startswith("node  ")]
    assert heads
    assert all(" ".join(head).split() == " ".join(HEAD).split() for head in heads)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (count(0), "0"), (count(0.25), "0.2"), (count(1234.5), "1,234"),
        (size(0), "0 B"), (size(1023), "1023 B"), (size(1536), "1.5 KiB"), (size(5 * 1024**4), "5120 GiB"),
        (milliseconds(0.00042), "0.4"), (milliseconds(2.5), "2,500"),
        (span(0.9), "0s"), (span(61), "1m 1s"), (span(90_000), "1d 1h"),
    ],
)  # fmt: skip
def test_units(written: str, read: str) -> None:
    """Figures in the unit that a person would choose."""
    assert written == read
