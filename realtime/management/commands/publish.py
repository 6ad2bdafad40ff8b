"""``manage.py publish``: what ``realtime.api`` does, from the command line."""

from __future__ import annotations

from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser

from realtime import api
from realtime.exceptions import BackplaneUnavailable
from realtime.protocol.errors import CommandRefused


class Command(BaseCommand):
    """Publishes one message and exits with 1 when the backplane did not take it."""

    help = "Publish JSON to a room, to everybody, to one connection, or to all connections of a user."

    def add_arguments(self, parser: CommandParser) -> None:
        """One sub-command for each audience."""
        audiences = parser.add_subparsers(dest="audience", required=True, metavar="room | broadcast | private")
        room = audiences.add_parser("room", help="to the members of a room")
        room.add_argument("room", help="the name of the room")
        broadcast = audiences.add_parser("broadcast", help="to every connection")
        private = audiences.add_parser("private", help="to one connection, or to one user")
        private.add_argument("to", help="a connection id, or user:<primary key>")
        for audience in (room, broadcast, private):
            audience.add_argument("data", help="""any JSON, for example '{"text": "hi"}'""")

    def handle(self, *args: Any, **options: Any) -> None:
        """Publish and wait until the backplane took it."""
        data = _decoded(options["data"])
        try:
            if options["audience"] == "room":
                api.publish_room(options["room"], data)
            elif options["audience"] == "private":
                api.publish_private(options["to"], data)
            else:
                api.publish_broadcast(data)
        except CommandRefused as refusal:
            raise CommandError(f"{refusal.code}: {refusal.message}") from refusal
        except BackplaneUnavailable as error:
            raise CommandError(f"unavailable: {error}. Is the backplane (BACKPLANE_URL) running?") from error
        if options["verbosity"] > 1:
            self.stdout.write("The backplane took it.")


def _decoded(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise CommandError(f"The data is not JSON: {error}. Text needs quotes of its own: '\"hi\"'.") from error
