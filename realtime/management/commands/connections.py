"""``manage.py connections``: who is connected, over the cluster, as the nodes say it now."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from realtime import api
from realtime.management import output

TITLES = ("id", "user", "transport", "connected", "idle", "rooms", "messages in", "messages out", "waiting bytes")


class Command(BaseCommand):
    """Lists live connections; rows of ended ones are in the admin."""

    help = "List live connections over all nodes, of a user, in a room or on a node."

    def add_arguments(self, parser: CommandParser) -> None:
        """Filters and paging."""
        parser.add_argument("--user", help="only of the user with this primary key")
        parser.add_argument("--room", help="only members of this room")
        parser.add_argument("--node", help="only on the node with this id")
        output.add_paging(parser, "id")
        output.add_asking(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask, and print what came."""
        with output.refusals_as_errors():
            found = api.list_connections(
                user=options["user"],
                room=options["room"],
                node=options["node"],
                limit=options["limit"],
                after=options["after"],
                within=options["within"],
            )
        if options["json"]:
            output.write_json(self.stdout, found)
            return
        now = time.time()
        rows = [
            (each.id, each.user, each.transport, output.seconds(now - each.opened), output.seconds(each.idle),
             each.rooms, each.messages_in, each.messages_out, each.backlog)
            for each in found.connections
        ]  # fmt: skip
        if rows:
            output.write_table(self.stdout, TITLES, rows)
        nodes = ", ".join(f"{count:,} on {node}" for node, count in sorted(found.by_node.items()))
        self.stdout.write(f"{found.total:,} connections{f': {nodes}' if nodes else ''}.")
        if found.has_more:
            self.stdout.write(f"There are more: --after {found.connections[-1].id}")
        output.write_silence(self.stderr, found)
