"""``manage.py health``: what the checks of each node found last, from what the nodes have written into the database."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from django.utils import timezone
from msgspec import to_builtins

from monitoring.cluster import ClusterReport, NodeReport, cluster_report
from monitoring.tables import shown, span
from realtime import conf
from realtime.protocol.envelope import Health


class Command(BaseCommand):
    """Exits with 1 when a node or one of its checks is unhealthy, or when there is no node."""

    help = (
        "Show the health of each node: every check with its figure, its limit, its age, and the reason when it fails."
    )
    requires_system_checks = ()  # it must answer in bad times, and quickly

    def add_arguments(self, parser: CommandParser) -> None:
        """How to show it."""
        parser.add_argument("--json", action="store_true", help="one line of JSON, for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        """Show it."""
        try:
            report = cluster_report(timezone.now(), conf.current().node_timeout_seconds)
        except DatabaseError as error:
            raise CommandError(f"The database does not answer: {error}. Is it there, and migrated?") from error
        self.stdout.write(_as_json(report) if options["json"] else _as_text(report))
        if report.problems:
            raise SystemExit(1)


def _as_json(report: ClusterReport) -> str:
    nodes = [{"id": node.id, "problem": node.problem, "checks": _objects(node)} for node in report.nodes]
    return json.dumps({"healthy": not report.problems, "problems": report.problems, "nodes": nodes})


def _objects(node: NodeReport) -> list[dict[str, object]]:
    return [{**to_builtins(found), "age_seconds": node.age_of(found)} for found in node.health]


def _as_text(report: ClusterReport) -> str:
    lines = []
    for node in report.nodes:
        lines.append(f"{'UNHEALTHY' if node.problem else 'healthy'}  {node.id}  {node.state}  {node.address}".rstrip())
        for found in node.health:
            lines.append(_line(found, node.age_of(found)))
    return "\n".join([*lines, *report.problems])


def _line(found: Health, age_seconds: float) -> str:
    figure, limit = shown(found.figure, found.unit), shown(found.limit, found.unit)
    verdict = "ok" if found.is_healthy else "FAIL"
    words = f"  {verdict:<4}  {found.check:<15} {figure:>12} of {limit:<12} {span(age_seconds):>7} ago"
    return f"{words}  {found.reason}".rstrip()
