"""``manage.py realtime_disconnect``: disconnect, where another application has a command of that name."""

from realtime.management.commands.disconnect import Command

__all__ = ["Command"]
