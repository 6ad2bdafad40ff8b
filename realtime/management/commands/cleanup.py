"""``manage.py cleanup``: rows that nobody needs any more."""

from __future__ import annotations

import argparse
import re
import time
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from realtime import conf
from realtime.pruning import SILENT_SECONDS, Pruned, Pruner, now

UNITS = {"d": "days", "h": "hours", "m": "minutes"}


class Command(BaseCommand):
    """Prints a line for each kind of row, with how many it removed, closed or marked."""

    help = (
        "Remove rows of nodes and connections that ended long ago and samples older than 24 hours, and close what"
        " nodes that died unnoticed left open. Safe at any time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Two options."""
        parser.add_argument(
            "--older-than",
            type=span,
            default=timedelta(days=7),
            metavar="SPAN",
            help="how long ago nodes and connections must have ended: 7d, 12h or 30m (default: 7d)",
        )
        parser.add_argument("--dry-run", action="store_true", help="count only, and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Clean up, and say what was done."""
        began = time.monotonic()
        silent_seconds = max(SILENT_SECONDS, 2 * conf.current().node_timeout_seconds)
        pruner = Pruner(now(), options["older_than"], silent_seconds=silent_seconds)
        try:
            done = pruner.count() if options["dry_run"] else pruner.prune()
        except DatabaseError as error:
            raise CommandError(f"{error}. What was done so far stays done; run it again.".replace("\n", " ")) from error
        for line in report(done):
            self.stdout.write(line)
        if options["dry_run"]:
            self.stdout.write("Nothing was changed (--dry-run).")
        else:
            self.stdout.write(f"Done in {time.monotonic() - began:.1f} s.")


def span(text: str) -> timedelta:
    """A span of time: a whole number and d, h or m."""
    match = re.fullmatch(r"([0-9]{1,5})([dhm])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no span of time such as 7d, 12h or 30m")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def report(done: Pruned) -> list[str]:
    """For people."""
    figures = (
        ("nodes taken for dead", done.nodes_died),
        ("connections closed", done.connections_closed),
        ("connections removed", done.connections),
        ("nodes removed", done.nodes),
        ("samples removed", done.samples),
    )
    return [f"{what:<22}{count:>12,}" for what, count in figures]
