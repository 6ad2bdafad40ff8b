"""The Django app of the demo page."""

from django.apps import AppConfig


class DemoConfig(AppConfig):
    """The demo page at `/`; it has no models and asks no database."""

    name = "demo"
    verbose_name = "Demo page"
