"""The Django application ``monitoring``."""

from __future__ import annotations

import logging

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    """Makes the node of this process record its facts for Prometheus."""

    name = "monitoring"
    verbose_name = "Monitoring"

    def ready(self) -> None:
        """Give the runtime an instrument and the registry a collector that reads it; once per process."""
        from prometheus_client import REGISTRY

        from monitoring.collector import collector
        from monitoring.quiet import ProbesAreQuiet
        from realtime.runtime import set_instrument

        if not collector.is_registered:
            set_instrument(collector.instrument)
            REGISTRY.register(collector)
            collector.is_registered = True
            logging.getLogger("django.request").addFilter(ProbesAreQuiet())
