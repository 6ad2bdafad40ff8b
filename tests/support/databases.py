"""Real databases for tests that need their own: a SQLite file, and a throw-away PostgreSQL server."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.db import connections

from devtools.ports import free_port
from tests.support.servers import die_with_parent, require

SQLITE: dict[str, Any] = {
    "ENGINE": "django.db.backends.sqlite3",
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 0.2,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
    },
}


@contextlib.contextmanager
def default_database(settings: dict[str, Any]) -> Iterator[None]:
    """Make ``settings`` the default database of every thread; the connection that was there comes back."""
    before = connections.settings["default"]
    kept = connections["default"]
    connections.settings["default"] = {**before, **settings, "TEST": before["TEST"]}
    del connections["default"]
    try:
        yield
    finally:
        connections["default"].close()
        if hasattr(connections["default"], "close_pool"):
            connections["default"].close_pool()
        connections.settings["default"] = before
        connections["default"] = kept


@contextlib.contextmanager
def postgresql_server() -> Iterator[dict[str, Any]]:
    """Django's settings for a PostgreSQL server of its own, on a free port; gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="realtime-postgresql-"))
    user = _unprivileged_user()
    if user:
        shutil.chown(directory, user)
    try:
        initdb = [
            _binary("initdb"),
            "-D",
            str(directory),
            "-U",
            "realtime",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        subprocess.run(initdb, check=True, capture_output=True, user=user, cwd=directory)
        port = free_port()
        arguments = ["-D", str(directory), "-h", "127.0.0.1", "-p", str(port), "-k", str(directory), "-F"]
        process = subprocess.Popen(
            [_binary("postgres"), *arguments],
            user=user,
            cwd=directory,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent(),
        )
        try:
            _wait_until_it_answers(process, port)
            yield {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "postgres",
                "USER": "realtime",
                "HOST": "127.0.0.1",
                "PORT": port,
                "OPTIONS": {"pool": {"min_size": 1, "max_size": 4, "timeout": 5}},
            }
        finally:
            process.terminate()
            process.wait(20)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _binary(name: str) -> str:
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, homes)]))
    return require(found, f"no {name}: PostgreSQL's server is not installed")


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    command = [_binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
    while subprocess.run(command).returncode != 0:
        if process.poll() is not None:
            raise RuntimeError("PostgreSQL ended while it started")
