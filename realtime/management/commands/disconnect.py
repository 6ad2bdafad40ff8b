"""``manage.py disconnect``: what ``realtime.api.disconnect`` does, from the command line."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from realtime import api
from realtime.management import output
from realtime.protocol.names import user_of_recipient


class Command(BaseCommand):
    """Ends connections and says how many; exit status 1 when a node did not answer."""

    help = "End one connection, or all connections of a user, with a close code and a reason."

    def add_arguments(self, parser: CommandParser) -> None:
        """Whom, and how."""
        parser.add_argument("to", help="a connection id, or user:<primary key>")
        parser.add_argument(
            "--code", type=int, default=1008, help="1000, 1001, 1008, 1012, 1013 or 3000 to 4999 (%(default)s)"
        )
        parser.add_argument("--reason", default="", help="what the client is told, 123 bytes at most")
        output.add_asking(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask and wait for the answer."""
        user = user_of_recipient(options["to"])
        connection = options["to"] if user is None else None
        with output.refusals_as_errors():
            done = api.disconnect(
                connection=connection,
                user=user,
                code=options["code"],
                reason=options["reason"],
                within=options["within"],
            )
        if options["json"]:
            output.write_json(self.stdout, done)
        else:
            self.stdout.write(f"{done.count:,} disconnected.")
        if done.is_partial:
            raise CommandError(f"No answer in time from {', '.join(done.silent) or 'a node'}.")
