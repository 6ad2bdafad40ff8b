"""The Django application ``monitoring``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

import realtime


class MonitoringConfig(AppConfig):
    """Makes the node of this process record its facts for Prometheus."""

    name = "monitoring"
    verbose_name = "Monitoring"

    def __init__(self, app_name: str, app_module: Any) -> None:
        super().__init__(app_name, app_module)
        _require_realtime()
        from realtime.clashes import require_own_label

        require_own_label(self.label)

    def ready(self) -> None:
        """Give the runtime an instrument and a watch of its health, and the registry a collector; once per process."""
        from prometheus_client import REGISTRY

        from monitoring import checks  # noqa: F401  registers by being imported
        from monitoring.collector import collector
        from monitoring.feed import FEED_PATH, feed
        from monitoring.health_monitor import watch_health
        from monitoring.quiet import FailuresAreToldOnce, ProbesAreQuiet, StrangersGetNoTraceback
        from realtime.routing import add_websocket
        from realtime.runtime import runtime, set_instrument

        if not collector.is_registered:
            set_instrument(collector.instrument)
            REGISTRY.register(collector)
            collector.is_registered = True
            runtime().accompany("health", watch_health)
            add_websocket(FEED_PATH, feed)
            logging.getLogger("django.request").addFilter(ProbesAreQuiet())
            for name in StrangersGetNoTraceback.LOGGERS:
                logging.getLogger(name).addFilter(StrangersGetNoTraceback())
            logging.getLogger("health_check").addFilter(FailuresAreToldOnce())


def _require_realtime() -> None:
    """Raises ImproperlyConfigured where ``realtime`` is not installed, or is a package of the project."""
    home = Path(realtime.__path__[0]).resolve().parent
    if home != Path(__file__).resolve().parents[1]:
        raise ImproperlyConfigured(
            f"(monitoring.E002) 'realtime' is the package {home / 'realtime'}, not the application that came with"
            " 'monitoring'. Rename that package."
        )
    if not any(entry.split(".")[0] == "realtime" for entry in settings.INSTALLED_APPS):
        raise ImproperlyConfigured("(monitoring.E003) Add 'realtime' to INSTALLED_APPS: 'monitoring' shows its nodes.")
