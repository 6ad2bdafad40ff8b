"""``/metrics`` and ``/health/…``. Each answers with and without a slash at its end: a balancer follows no redirect."""

from __future__ import annotations

from django.urls import URLPattern, re_path

from monitoring import views

app_name = "monitoring"

urlpatterns: list[URLPattern] = [
    re_path(r"^metrics/?$", views.metrics, name="metrics"),
    re_path(r"^health/live/?$", views.live, name="live"),
    re_path(r"^health/ready/?$", views.ready, name="ready"),
    re_path(r"^health/?$", views.detail, name="health"),
]
