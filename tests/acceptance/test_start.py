"""How the project starts from its environment, each time in a new process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.cluster import clean_environment
from tests.support.processes import CHECKOUT

PRINT_SETTING = "import config.settings as s; print(repr(getattr(s, {!r})))"
DAPHNE_THEN_US = """
import daphne.cli, config.asgi
from daphne.server import Server
from realtime.server.daphne_hooks import verify
print(verify(), [hasattr(walk, "__wrapped__") for walk in (Server.application_checker, Server.timeout_checker)])
"""


def test_development_needs_no_environment() -> None:
    """Without any variable settings load, with DEBUG on, on SQLite and Redis of this machine."""
    assert setting("DEBUG") == "True"
    assert "redis://127.0.0.1:6379/0" in setting("CHANNEL_LAYERS")
    assert "IMMEDIATE" in setting("DATABASES")


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({"DJANGO_DEBUG": "0"}, "DJANGO_ALLOWED_HOSTS"),
        ({"DJANGO_DEBUG": "0", "DJANGO_ALLOWED_HOSTS": "a.example"}, "DJANGO_SECRET_KEY"),
        ({"DJANGO_DEBUG": "0", "DJANGO_SECRET_KEY": "k" * 50}, "DJANGO_ALLOWED_HOSTS"),
        ({"BACKPLANE_URL": "carrier-pigeon://"}, "BACKPLANE_URL"),
        ({"REALTIME_HEARTBEAT_SECONDS": "3600"}, "REALTIME_HEARTBEAT_SECONDS"),
        ({"REALTIME_HEARTBEAT_SECONDS": "often"}, "REALTIME_HEARTBEAT_SECONDS"),
        ({"REALTIME_PERMISSIONS": "no.such.Permissions"}, "REALTIME_PERMISSIONS"),
        ({"REALTIME_PERMISSIONS": "realtime.permissions.Rule"}, "REALTIME_PERMISSIONS"),
        ({"REALTIME_TRUSTED_PROXIES": "10.0.0.0/33"}, "REALTIME_TRUSTED_PROXIES"),
        ({"REALTIME_ALLOWED_ORIGINS": "chat.example"}, "REALTIME_ALLOWED_ORIGINS"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL"),
        ({"DJANGO_HSTS_SECONDS": "3600"}, "DJANGO_HSTS_SECONDS"),
        ({"BACKPLANE_URL_FILE": "/nowhere/url"}, "BACKPLANE_URL_FILE"),
        ({"REALTIME_HEALTH_TOKEN_FILE": "/nowhere/token"}, "REALTIME_HEALTH_TOKEN_FILE"),
        ({"DJANGO_SECRET_KEY_FILE": "/nowhere/key", "DJANGO_SECRET_KEY": "k" * 50}, "DJANGO_SECRET_KEY"),
    ],
)
def test_the_application_does_not_start_on_a_bad_value(environment: dict[str, str], variable: str) -> None:
    """`config.asgi` ends with exit status 1 and one line that names the variable, without a traceback."""
    done = python("import config.asgi", environment)
    assert done.returncode == 1
    assert done.stderr.startswith(f"config: {variable} ")
    assert done.stderr.count("\n") == 1


def test_production_takes_its_secrets_from_the_environment() -> None:
    """With DJANGO_DEBUG=0, a secret key and hosts, the settings load and DEBUG is off."""
    environment = {"DJANGO_DEBUG": "0", "DJANGO_ALLOWED_HOSTS": "a.example", "DJANGO_SECRET_KEY": "k" * 50}
    assert setting("DEBUG", environment) == "False"
    assert setting("ALLOWED_HOSTS", environment) == "['a.example']"


def test_postgresql_uses_a_pool() -> None:
    """A PostgreSQL URL gives a pool of connections, and none is kept for a thread."""
    databases = setting("DATABASES", {"DATABASE_URL": "postgres://u:p@db.example:5433/name"})
    assert "django_prometheus.db.backends.postgresql" in databases
    assert "'pool': {" in databases
    assert "'CONN_MAX_AGE': 0" in databases


def test_daphne_is_tuned_when_it_imports_the_application() -> None:
    """Its walks over all connections are in parts; it is still the daphne that is expected."""
    done = python(DAPHNE_THEN_US, {"BACKPLANE_URL": "memory://"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "None [True, True]"


def setting(name: str, environment: dict[str, str] | None = None) -> str:
    done = python(PRINT_SETTING.format(name), environment or {})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def python(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    variables = {**clean_environment(), **environment}
    variables.pop("DJANGO_SETTINGS_MODULE", None)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, env=variables, capture_output=True, text=True, timeout=90
    )
