"""``manage.py realtime_connections``: connections, where another application has a command of that name."""

from realtime.management.commands.connections import Command

__all__ = ["Command"]
