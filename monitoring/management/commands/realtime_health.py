"""``manage.py realtime_health``: health, where another application has a command of that name."""

from monitoring.management.commands.health import Command

__all__ = ["Command"]
