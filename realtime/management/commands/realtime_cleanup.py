"""``manage.py realtime_cleanup``: cleanup, where another application has a command of that name."""

from realtime.management.commands.cleanup import Command

__all__ = ["Command"]
