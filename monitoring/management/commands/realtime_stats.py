"""``manage.py realtime_stats``: stats, where another application has a command of that name."""

from monitoring.management.commands.stats import Command

__all__ = ["Command"]
