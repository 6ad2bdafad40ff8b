"""Real databases for tests that need their own: a SQLite file and a PostgreSQL server, migrated and empty."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from tests.support.databases import SQLITE, default_database, postgresql_server


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Path:
    path = tmp_path_factory.mktemp("database") / "migrated.sqlite3"
    with django_db_blocker.unblock(), default_database({**SQLITE, "NAME": str(path)}):
        call_command("migrate", verbosity=0)
    return path


@pytest.fixture
def sqlite_file(migrated_file: Path, tmp_path: Path, django_db_blocker: Any) -> Iterator[Path]:
    path = tmp_path / "db.sqlite3"
    shutil.copy(migrated_file, path)
    with django_db_blocker.unblock(), default_database({**SQLITE, "NAME": str(path)}):
        yield path


@pytest.fixture(scope="session")
def postgresql_settings(django_db_blocker: Any) -> Iterator[dict[str, Any]]:
    with postgresql_server() as settings:
        with django_db_blocker.unblock(), default_database(settings):
            call_command("migrate", verbosity=0)
        yield settings


@pytest.fixture
def postgresql(postgresql_settings: dict[str, Any], django_db_blocker: Any) -> Iterator[None]:
    """A migrated PostgreSQL, empty."""
    with django_db_blocker.unblock(), default_database(postgresql_settings):
        call_command("flush", verbosity=0, interactive=False)
        yield


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[str]:
    """A migrated database of each kind, empty."""
    if request.param == "sqlite":
        request.getfixturevalue("sqlite_file")
        yield request.param
        return
    request.getfixturevalue("postgresql")
    yield request.param
