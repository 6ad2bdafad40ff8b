"""Keeps Django from logging an expected answer as an error."""

from __future__ import annotations

import logging


class ProbesAreQuiet(logging.Filter):
    """Drops the ERROR line of Django for each 503 of a health probe: balancers ask every second, and the node itself
    says once why it is not ready."""

    def filter(self, record: logging.LogRecord) -> bool:
        match = getattr(getattr(record, "request", None), "resolver_match", None)
        return not (getattr(record, "status_code", None) == 503 and "monitoring" in getattr(match, "app_names", ()))


class FailuresAreToldOnce(logging.Filter):
    """Drops the line and traceback of django-health-check for each failed look: ``health_monitor`` says once when a
    check begins to fail, and when it is well again."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING
