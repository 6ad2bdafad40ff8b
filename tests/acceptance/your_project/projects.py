"""Small projects that use the installed wheel, each written for one test."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from devtools.ports import free_port
from tests.acceptance.your_project.document import Server, Walk

SETTINGS = """
import os

DEBUG = True
SECRET_KEY = "of a test, 0123456789-0123456789-0123456789-0123456789"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "project.urls"
ASGI_APPLICATION = "project.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}}}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware", "realtime.revocation.RevocationMiddleware"]
LAYER = {{
    "BACKEND": "realtime.layers.redis.RedisChannelLayer",
    "CONFIG": {{"hosts": [os.environ["REDIS"]], "prefix": os.environ["PREFIX"]}},
}}
CHANNEL_LAYERS = {{"default": LAYER}}
REALTIME = {{}}
{more}
"""
ASGI = """
import os
from realtime.routing import realtime_application
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
application = realtime_application(get_asgi_application())
"""
URLS = """
from django.urls import include, path

urlpatterns = [path("", include("monitoring.urls"))]
"""
PLAIN = {"project/__init__.py": "", "project/asgi.py": ASGI, "project/urls.py": URLS}
NUMBER = re.compile(r"\b(?:realtime|monitoring)\.[EW]\d{3}\b")


class Project:
    """Files below ``directory``; settings are those above with ``more`` lines."""

    def __init__(self, walk: Walk, directory: Path, more: str, files: Mapping[str, str] | None = None) -> None:
        self.walk = walk
        self.directory = directory
        self.variables = {
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "REDIS": f"redis://127.0.0.1:{walk.ports['6379']}/0",
            "PREFIX": f"t{os.urandom(5).hex()}",
        }
        self.servers: list[Server] = []
        for path, text in {**PLAIN, "project/settings.py": SETTINGS.format(more=more), **(files or {})}.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_text(text)

    def manage(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """``django-admin`` in the project."""
        return self.walk.call("-m", "django", *words, directory=self.directory, **self._all(variables))

    def found(self, *words: str, **variables: str) -> set[str]:
        """The numbers of our checks that speak."""
        done = self.manage(*(words or ("check",)), **variables)
        return set(NUMBER.findall(done.stdout + done.stderr))

    def start(self, ready: str = "/health/ready", **variables: str) -> Server:
        """A node on daphne."""
        migrated = self.manage("migrate", "--run-syncdb", "--verbosity", "0", "--skip-checks", **variables)
        assert migrated.returncode == 0, migrated.stderr
        daphne = self.walk.python.with_name("daphne")
        command = f"'{daphne}' project.asgi:application --port {free_port()}"
        server = Server(command, self.directory, {**self.walk.environment, **self._all(variables)})
        self.servers.append(server)
        server.spawn()
        server.wait_ready(ready)
        return server

    def stop(self) -> None:
        for server in self.servers:
            server.kill()

    def _all(self, variables: Mapping[str, str]) -> dict[str, str]:
        return {**self.variables, "PYTHONPATH": str(self.directory), **variables}
