"""``manage.py realtime_rooms``: rooms, where another application has a command of that name."""

from realtime.management.commands.rooms import Command

__all__ = ["Command"]
