"""The engines of django-prometheus, with our options, on a real SQLite file and a real PostgreSQL server."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, connection, transaction
from prometheus_client import REGISTRY

from config import env
from realtime.facts import ConnectionFacts, NodeFacts
from realtime.instrument import Instrument
from realtime.models import Connection, Node
from realtime.tracking import Tracker
from tests.support.databases import SQLITE, default_database, postgresql_server

NOW = 1_800_000_000.0


@pytest.fixture
def sqlite_file(tmp_path: Path, django_db_blocker: Any) -> Iterator[Path]:
    path = tmp_path / "db.sqlite3"
    settings = {**SQLITE, "ENGINE": env.COUNTED[env.SQLITE], "NAME": str(path)}
    with django_db_blocker.unblock(), default_database(settings):
        call_command("migrate", verbosity=0)
        yield path


@pytest.fixture
def postgresql(django_db_blocker: Any) -> Iterator[None]:
    with postgresql_server() as settings:
        counted = {**settings, "ENGINE": env.COUNTED[env.POSTGRESQL]}
        with django_db_blocker.unblock(), default_database(counted):
            call_command("migrate", verbosity=0)
            yield


def counted(name: str, vendor: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"alias": "default", "vendor": vendor, **labels}) or 0.0


def check_counting(vendor: str) -> None:
    """Statements, their rows, and errors by type."""
    before = counted("django_db_execute_total", vendor)
    assert not Node.objects.exists()
    assert counted("django_db_execute_total", vendor) == before + 1
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT nothing FROM nowhere")
    errors = [counted("django_db_errors_total", vendor, type=name) for name in ("OperationalError", "UndefinedTable")]
    assert sum(errors) > 0


def check_tracking() -> None:
    """Rows are written in bulk, by a thread of its own, as on the plain engines."""

    async def write() -> None:
        tracker = Tracker(flush_seconds=0.05, pending_max=1000, instrument=Instrument())
        await tracker.start()
        tracker.node_seen(
            NodeFacts(id="n1", address="a", version="1", started=NOW, last_heartbeat=NOW, state="ready", statistics={})
        )
        for number in range(50):
            facts = ConnectionFacts(id=f"n1.{number}", node="n1", transport="websocket", connected=NOW)
            tracker.connection_opened(facts)
        await tracker.stop()

    asyncio.run(write())
    assert (Node.objects.count(), Connection.objects.count()) == (1, 50)


def test_sqlite_keeps_its_options_and_is_counted(sqlite_file: Path) -> None:
    """WAL, and a transaction that takes the write lock when it begins."""
    check_counting("sqlite")
    check_tracking()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone() == ("wal",)
    with transaction.atomic():
        other = sqlite3.connect(sqlite_file, timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()


def test_postgresql_keeps_its_pool_and_is_counted(postgresql: None) -> None:
    """One pool for the process, whose connections count their statements."""
    check_counting("postgresql")
    check_tracking()
    pool: Any = connection.pool  # type: ignore[attr-defined]
    before = pool.get_stats()["connections_num"]
    for _ in range(5):
        connection.close()
        assert Node.objects.count() == 1
    assert pool.get_stats()["connections_num"] == before


def test_a_database_that_is_gone_is_counted(tmp_path: Path, django_db_blocker: Any) -> None:
    """Connections that fail are a metric of their own."""
    before = counted("django_db_new_connection_errors_total", "sqlite")
    settings = {**SQLITE, "ENGINE": env.COUNTED[env.SQLITE], "NAME": str(tmp_path / "no" / "such" / "file")}
    with django_db_blocker.unblock(), default_database(settings), pytest.raises(OperationalError):
        Node.objects.exists()
    assert counted("django_db_new_connection_errors_total", "sqlite") == before + 1
