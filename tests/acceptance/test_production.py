"""The production environment that docs/operations.md shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.acceptance.test_start import python, setting
from tests.support.cluster import clean_environment, run_manage
from tests.support.processes import CHECKOUT

SECRETS = {
    "backplane-keys": "k" * 44,
    "backplane-url": "redis://realtime:hunter2@10.0.0.20:6379/0",
    "database-url": "postgres://realtime:hunter2@10.0.0.21:5432/realtime",
    "metrics-token": "m" * 44,
    "secret-key": "9f8G7-hJ2kL5mN8pQ1rS4tV7wX0yZ3bC6dF9gH2jK5lM8nP1qR4s",
}
OF_THE_MACHINE = {"realtime.W101", "realtime.W102", "realtime.W103", "realtime.W104"}
PRODUCTION = {"DJANGO_DEBUG": "0", "DJANGO_ALLOWED_HOSTS": "a.example", "DJANGO_SECRET_KEY": "k" * 50}
TLS = {**PRODUCTION, "DJANGO_BEHIND_TLS": "1"}
ASK = """
import config.asgi
from django.test import Client
client = Client(headers={"host": "a.example"})
for path in ("/", "/admin/login/", "/health/live", "/static/realtime/client.js"):
    for is_secure in (False, True):
        answer = client.get(path, secure=is_secure)
        print(path, is_secure, answer.status_code, answer.get("location"), answer.get("strict-transport-security"))
"""


@pytest.fixture
def documented(tmp_path: Path) -> dict[str, str]:
    """The environment in docs/operations.md, with secrets in files as it says."""
    text = (CHECKOUT / "docs" / "operations.md").read_text()
    [block] = re.findall(r"^# /etc/realtime/environment\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for name, secret in SECRETS.items():
        (tmp_path / name).write_text(f"{secret}\n")
    lines = (line.partition("=") for line in block.splitlines() if line and not line.startswith("#"))
    return {name: value.replace("/etc/realtime", str(tmp_path)) for name, _, value in lines}


def test_check_deploy_has_nothing_to_say(documented: dict[str, str]) -> None:
    """Neither Django's checks of security nor ours complain, but for what is small on the machine of the test."""
    done = run_manage({**clean_environment(), **documented}, "check", "--deploy", "--fail-level", "ERROR")
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"\((\w+\.[EW]\d+)\)", done.stderr)) <= OF_THE_MACHINE
    assert "hunter2" not in done.stdout + done.stderr


def test_it_uses_every_secret_that_is_there(documented: dict[str, str]) -> None:
    """The secrets come from the files."""
    assert {Path(value).name for name, value in documented.items() if name.endswith("_FILE")} == set(SECRETS)
    layers = setting("CHANNEL_LAYERS", documented)
    assert SECRETS["backplane-url"] in layers
    assert SECRETS["backplane-keys"] in layers
    assert setting("SECRET_KEY", documented) == repr(SECRETS["secret-key"])


@pytest.mark.parametrize(
    ("environment", "is_secure"),
    [({}, False), (PRODUCTION, True), (TLS, True), ({**PRODUCTION, "DJANGO_SECURE_COOKIES": "0"}, False)],
    ids=["development", "production", "tls", "wanted"],
)
def test_cookies_of_production_are_for_https(environment: dict[str, str], is_secure: bool) -> None:
    """With DEBUG off they never travel in the open, unless that was said."""
    assert setting("SESSION_COOKIE_SECURE", environment) == repr(is_secure)
    assert setting("CSRF_COOKIE_SECURE", environment) == repr(is_secure)


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [({}, 0), (PRODUCTION, 0), (TLS, 86_400), ({**TLS, "DJANGO_HSTS_SECONDS": "0"}, 0)],
    ids=["development", "production", "tls", "unwanted"],
)
def test_hsts_is_for_those_behind_tls(environment: dict[str, str], seconds: int) -> None:
    """A day with TLS, unless another time was said; the redirect to https comes and goes with TLS."""
    assert setting("SECURE_HSTS_SECONDS", environment) == str(seconds)
    assert setting("SECURE_SSL_REDIRECT", environment) == repr("DJANGO_BEHIND_TLS" in environment)


def test_pages_without_tls_lead_to_https() -> None:
    """With TLS at the balancer, clients' pages are redirected, and those of the operators' side answered; HSTS goes to
    those who came by https."""
    done = python(ASK, {**TLS, "BACKPLANE_URL": "memory://"})
    assert done.stdout.splitlines() == [
        "/ False 301 https://a.example/ None",
        "/ True 404 None max-age=86400",
        "/admin/login/ False 200 None None",
        "/admin/login/ True 200 None max-age=86400",
        "/health/live False 200 None None",
        "/health/live True 200 None max-age=86400",
        "/static/realtime/client.js False 200 None None",
        "/static/realtime/client.js True 200 None max-age=86400",
    ], done.stderr
