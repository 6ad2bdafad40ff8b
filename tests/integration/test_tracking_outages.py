"""Rows while the database is locked, missing, slow or cut off."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection

from realtime.models import Connection
from realtime.tracking import Tracker
from tests.support.databases import SQLITE, default_database
from tests.support.tracking import CountingInstrument, end, facts, run, tracker, until


def test_rows_wait_while_the_database_is_locked(sqlite_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While another writer holds the database nothing is lost, the loop goes on, and one line says so."""
    slowest = 0.0
    patience = 1.5  # how long the thread waits for the lock at every try

    async def scenario(subject: Tracker) -> None:
        nonlocal slowest
        locker = sqlite3.connect(sqlite_file)
        locker.execute("BEGIN IMMEDIATE")
        subject.connection_opened(facts(0))
        await until(lambda: subject._carried_count == 1)  # the thread has taken it, and waits for the lock
        for number in range(1, 200):
            before = time.perf_counter()
            subject.connection_opened(facts(number))
            slowest = max(slowest, time.perf_counter() - before)
        await until(lambda: subject._failures >= 2)
        assert subject.pending == 200
        locker.rollback()
        locker.close()
        await until(lambda: subject.pending == 0)

    patient = {**SQLITE, "NAME": str(sqlite_file), "OPTIONS": {**SQLITE["OPTIONS"], "timeout": patience}}
    with default_database(patient), caplog.at_level(logging.INFO, "realtime.tracking"):
        subject = run(scenario)

    assert subject.lost == 0
    assert Connection.objects.count() == 200
    assert slowest < 0.1  # the thread waited for far longer than that at every try, beside the loop
    events = [record.getMessage().split()[0] for record in caplog.records]
    assert events == ["tracking_unavailable", "tracking_restored"]


def test_rows_beyond_the_bound_are_counted(sqlite_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the database gone for long, what exceeds the bound is lost, counted and logged once."""
    instrument = CountingInstrument()

    def scenario(subject: Tracker) -> None:
        for number in range(150):
            subject.connection_opened(facts(number))
        end(subject, facts(5).id)  # belongs to a row that waits: it needs no more room

    with caplog.at_level(logging.ERROR, "realtime.tracking"):
        subject = run(scenario, pending_max=100, instrument=instrument, flush_seconds=60)

    assert (subject.lost, instrument.lost) == (50, 50)
    assert Connection.objects.count() == 100
    assert Connection.objects.get(id=facts(5).id).close_code == 1000
    assert len(caplog.records) == 1


def test_an_unmigrated_database_is_one_clear_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, django_db_blocker: Any
) -> None:
    """Missing tables: one ERROR line names the remedy; once it is applied, what waited is written."""

    async def scenario(subject: Tracker) -> None:
        subject.connection_opened(facts())
        await until(lambda: subject._failures >= 2)
        migration = threading.Thread(target=call_command, args=("migrate",), kwargs={"verbosity": 0})
        migration.start()
        await asyncio.to_thread(migration.join)
        await until(lambda: subject.pending == 0, 30)

    settings = {
        **SQLITE,
        "NAME": str(tmp_path / "empty.sqlite3"),
        "OPTIONS": {**SQLITE["OPTIONS"], "timeout": 5},
    }
    with django_db_blocker.unblock(), default_database(settings):
        with caplog.at_level(logging.ERROR, "realtime.tracking"):
            run(scenario)
        assert Connection.objects.count() == 1

    (record,) = caplog.records
    assert "manage.py migrate" in record.getMessage()


def test_stop_gives_up_at_its_deadline(sqlite_file: Path) -> None:
    """A database that is not there cannot hold up the end of the process; what was not written is counted."""
    instrument = CountingInstrument()

    async def scenario() -> float:
        subject = tracker(instrument=instrument, flush_seconds=60)
        await subject.start()
        subject.connection_opened(facts())
        before = time.monotonic()
        await subject.stop(within_seconds=0.3)
        return time.monotonic() - before

    locker = sqlite3.connect(sqlite_file)
    locker.execute("BEGIN IMMEDIATE")
    assert asyncio.run(scenario()) < 2
    locker.close()
    assert instrument.lost == 1


def test_a_postgresql_that_hangs_delays_nothing(postgresql: None) -> None:
    """While somebody holds the table, the loop goes on and rows wait; then all of them are written."""
    slowest = 0.0

    async def scenario(subject: Tracker) -> None:
        nonlocal slowest
        with psycopg.connect(**_address()) as locker:
            locker.execute("LOCK TABLE realtime_connection IN ACCESS EXCLUSIVE MODE")
            subject.connection_opened(facts(0))
            await until(lambda: subject._carried_count == 1)  # the thread has taken it, and waits for the lock
            for number in range(1, 200):
                before = time.perf_counter()
                subject.connection_opened(facts(number))
                slowest = max(slowest, time.perf_counter() - before)
            await until(lambda: _blocked(locker) == 1)
            assert subject.pending == 200
        await until(lambda: subject.pending == 0)

    assert run(scenario).lost == 0
    assert Connection.objects.count() == 200
    assert slowest < 1  # the lock was held for as long as all of that took


def test_a_postgresql_that_cuts_its_clients_costs_no_row(postgresql: None, caplog: pytest.LogCaptureFixture) -> None:
    """A connection to the database that ends under the tracker is made again, and what waited is written."""

    async def scenario(subject: Tracker) -> None:
        for number in range(3):
            subject.connection_opened(facts(number))
            await until(lambda: subject.pending == 0, 60)
            with psycopg.connect(**_address()) as killer:
                killer.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )

    with caplog.at_level(logging.INFO, "realtime.tracking"):
        assert run(scenario).lost == 0
    assert "tracking_restored" in caplog.text
    with psycopg.connect(**_address()) as witness:  # Django's own connection of this thread was cut, too
        assert witness.execute("SELECT count(*) FROM realtime_connection").fetchone() == (3,)


def _address() -> dict[str, Any]:
    settings = connection.settings_dict
    return {"host": settings["HOST"], "port": settings["PORT"], "user": settings["USER"], "dbname": settings["NAME"]}


def _blocked(witness: psycopg.Connection[Any]) -> int:
    """Sessions that wait for a lock."""
    row = witness.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone()
    return int(row[0]) if row else 0
