"""``manage.py drain``: let one node stop as on SIGTERM, from wherever its backplane can be reached."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from realtime import api
from realtime.cluster import Outcome
from realtime.management import output


class Command(BaseCommand):
    """Says whether the node took it; exit status 1 when it did not."""

    help = "Let a node close its clients with 1012 and end, as SIGTERM does."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which node."""
        parser.add_argument("node", help="the id of the node, as `manage.py stats` and the admin show it")
        output.add_asking(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask and wait for the answer."""
        with output.refusals_as_errors():
            done = api.drain(options["node"], within=options["within"])
        if options["json"]:
            output.write_json(self.stdout, done)
        elif done.count:
            self.stdout.write(f"{options['node']} drains.")
        if not done.count:
            raise CommandError(_why(done))


def _why(done: Outcome) -> str:
    if done.refusals:
        return "; ".join(done.refusals)
    return f"No answer in time from {', '.join(done.silent)}: it may drain or not."
