"""Numbered system checks: whether Prometheus, balancers and people find what they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.urls import NoReverseMatch, Resolver404, resolve, reverse
from django_prometheus.exports import ExportToDjangoView

from monitoring.collector import taken_metrics
from realtime.checks import TAG, Check, Problem
from realtime.conf import BadSetting

NAMES = ("metrics", "live", "ready", "health")


def taken_names() -> Problem | None:
    """Metrics of ours that the scrape leaves out."""
    try:
        found = sorted(taken_metrics())
    except BadSetting:  # realtime.E001 says so
        return None
    if not found:
        return None
    return (
        f"Other collectors have names of our metrics, which are left out therefore: {', '.join(found)}.",
        "Set REALTIME['METRIC_PREFIX'], and put it before the names in our rules and dashboard.",
    )


def missing_urls() -> Problem | None:
    """No metrics for Prometheus, and no readiness for balancers."""
    if not getattr(settings, "ROOT_URLCONF", None) or any(_path(name) for name in NAMES):
        return None
    return (
        "monitoring.urls is not in the URLconf: nobody can ask for /metrics and /health/ready.",
        'Add path("", include("monitoring.urls")) to urlpatterns; any prefix will do.',
    )


def covered_paths() -> Problem | None:
    """Something else comes first in the URLconf."""
    paths = [path for name in NAMES if (path := _path(name)) and not _is_ours(path)]
    if not paths:
        return None
    return (
        f"Paths of monitoring.urls are answered by something else: {', '.join(paths)}.",
        "Include monitoring.urls before it, or under a prefix.",
    )


def _path(name: str) -> str:
    if not getattr(settings, "ROOT_URLCONF", None):
        return ""
    try:
        return reverse(f"monitoring:{name}")
    except NoReverseMatch:
        return ""


def _is_ours(path: str) -> bool:
    try:
        found = resolve(path)
    except Resolver404:
        return False
    return "monitoring" in found.app_names or found.func is ExportToDjangoView


CHECKS: tuple[Check, ...] = (
    Check("monitoring.E001", TAG, "other collectors have names of our metrics", taken_names),
    Check("monitoring.W001", TAG, "monitoring.urls is not in the URLconf", missing_urls),
    Check("monitoring.W002", TAG, "a path of monitoring.urls is answered by something else", covered_paths),
)


@checks.register(TAG)
def check_monitoring(app_configs: Sequence[Any] | None, **_: Any) -> list[CheckMessage]:
    """The checks of metrics and URLs."""
    return [message for check in CHECKS if (message := check.message())]
