"""The Django application ``monitoring``."""

from __future__ import annotations

import logging

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    """Makes the node of this process record its facts for Prometheus."""

    name = "monitoring"
    verbose_name = "Monitoring"

    def ready(self) -> None:
        """Give the runtime an instrument and a watch of its health, and the registry a collector; once per process."""
        from prometheus_client import REGISTRY

        from monitoring.collector import collector
        from monitoring.feed import FEED_PATH, feed
        from monitoring.health_monitor import watch_health
        from monitoring.quiet import FailuresAreToldOnce, ProbesAreQuiet
        from realtime.routing import add_websocket
        from realtime.runtime import runtime, set_instrument

        if not collector.is_registered:
            set_instrument(collector.instrument)
            REGISTRY.register(collector)
            collector.is_registered = True
            runtime().accompany("health", watch_health)
            add_websocket(FEED_PATH, feed)
            logging.getLogger("django.request").addFilter(ProbesAreQuiet())
            logging.getLogger("health_check").addFilter(FailuresAreToldOnce())
