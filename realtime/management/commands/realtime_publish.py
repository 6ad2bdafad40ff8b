"""``manage.py realtime_publish``: publish, where another application has a command of that name."""

from realtime.management.commands.publish import Command

__all__ = ["Command"]
