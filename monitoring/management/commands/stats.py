"""``manage.py stats``: how the cluster is, from what its nodes have written into the database."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from monitoring import tables
from monitoring.cluster import ClusterReport, cluster_report
from realtime import conf

CLEAR = "\x1b[H\x1b[2J"
"""What makes a terminal begin again at its top."""


class Command(BaseCommand):
    """Exits with 1 when a node is unhealthy, or when there is none."""

    help = "Show nodes, connections, users, rooms, rates, memory, backlog and latency, for each node and in total."
    requires_system_checks = ()  # it must answer in bad times, and quickly

    def add_arguments(self, parser: CommandParser) -> None:
        """How to show it."""
        parser.add_argument("--json", action="store_true", help="one line of JSON, for machines")
        parser.add_argument("--watch", type=_seconds, metavar="SECONDS", help="again and again, until Ctrl-C")

    def handle(self, *args: Any, **options: Any) -> None:
        """Show it once, or until interrupted."""
        report = self._show(options)
        try:
            while options["watch"]:
                self.sleep(options["watch"])
                close_old_connections()
                report = self._show(options)
        except KeyboardInterrupt:
            pass
        if report.problems:
            raise SystemExit(1)

    @staticmethod
    def sleep(seconds: float) -> None:
        """Between two looks."""
        time.sleep(seconds)

    def _show(self, options: dict[str, Any]) -> ClusterReport:
        try:
            report = cluster_report(timezone.now(), conf.current().node_timeout_seconds)
        except DatabaseError as error:
            raise CommandError(f"The database does not answer: {error}. Is it there, and migrated?") from error
        if options["watch"] and not options["json"] and self.stdout.isatty():
            self.stdout.write(CLEAR, ending="")
        self.stdout.write(tables.as_json(report) if options["json"] else tables.as_text(report))
        self.stdout.flush()
        return report


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise ValueError(text)
    return seconds
