"""The Django application ``realtime``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.apps import AppConfig

from realtime.clashes import require_own_label


class RealtimeConfig(AppConfig):
    """Registers the system checks; the node starts with the server, not here."""

    name = "realtime"
    verbose_name = "Realtime"
    default_auto_field = "django.db.models.BigAutoField"

    def __init__(self, app_name: str, app_module: Any) -> None:
        super().__init__(app_name, app_module)
        require_own_label(self.label)

    def ready(self) -> None:
        from django.utils.module_loading import autodiscover_modules

        from realtime import commands, revocation

        import_module("realtime.checks")  # they register by being imported
        revocation.listen()
        autodiscover_modules("socketio_events")  # a project's own events, in each of its applications
        autodiscover_modules("realtime_commands")  # and its own commands
        commands.registry.install()
