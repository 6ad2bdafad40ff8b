"""``manage.py rooms``: which rooms there are, over the cluster, and how many members they have."""

from __future__ import annotations

import shlex
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from realtime import api
from realtime.management import output


class Command(BaseCommand):
    """Lists rooms by name; ``manage.py connections --room`` has the members of one."""

    help = "List rooms with a member over all nodes, and their number of members."

    def add_arguments(self, parser: CommandParser) -> None:
        """A filter and paging."""
        parser.add_argument("prefix", nargs="?", default="", help="only rooms whose name begins so")
        output.add_paging(parser, "room")
        output.add_asking(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask, and print what came."""
        with output.refusals_as_errors():
            found = api.list_rooms(
                prefix=options["prefix"], limit=options["limit"], after=options["after"], within=options["within"]
            )
        if options["json"]:
            output.write_json(self.stdout, found)
            return
        nodes = sorted(found.by_node)
        rows = [(room.name, room.members, *(room.by_node.get(node, 0) for node in nodes)) for room in found.rooms]
        if rows:
            output.write_table(self.stdout, ("room", "members", *nodes), rows)
        counts = ", ".join(f"{found.by_node[node]:,} on {node}" for node in nodes)
        self.stdout.write(f"Rooms on each node: {counts or 'no node has answered'}.")
        if found.has_more:
            self.stdout.write(f"There are more: --after {shlex.quote(found.rooms[-1].name)}")
        output.write_silence(self.stderr, found)
