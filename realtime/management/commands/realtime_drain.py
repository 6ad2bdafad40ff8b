"""``manage.py realtime_drain``: drain, where another application has a command of that name."""

from realtime.management.commands.drain import Command

__all__ = ["Command"]
