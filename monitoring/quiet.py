"""Keeps Django from logging an expected answer as an error."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from django.core.exceptions import SuspiciousOperation


def _suspicions() -> Iterator[type[SuspiciousOperation]]:
    """Each kind has a logger of its own."""
    yield SuspiciousOperation
    yield from SuspiciousOperation.__subclasses__()


class ProbesAreQuiet(logging.Filter):
    """Drops the ERROR line of Django for each 503 of a health probe: balancers ask every second, and the node itself
    says once why it is not ready."""

    def filter(self, record: logging.LogRecord) -> bool:
        match = getattr(getattr(record, "request", None), "resolver_match", None)
        return not (getattr(record, "status_code", None) == 503 and "monitoring" in getattr(match, "app_names", ()))


class StrangersGetNoTraceback(logging.Filter):
    """Takes the traceback from the lines of Django about requests that it answers with 400: a wrong Host header, a body
    that is too large or broken. Anybody can send those, and the line names what was wrong."""

    LOGGERS = ("django.request", *(f"django.security.{kind.__name__}" for kind in _suspicions()))

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "status_code", None) == 400:
            record.exc_info = None
        return True


class FailuresAreToldOnce(logging.Filter):
    """Drops the line and traceback of django-health-check for each failed look: ``health_monitor`` says once when a
    check begins to fail, and when it is well again."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING
