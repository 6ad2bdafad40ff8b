"""The living parts of the admin's pages: each is rendered by one function, for the page itself, for its feed and for
those that ask again and again where the feed does not get through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.template.loader import render_to_string
from django.utils import timezone

from monitoring.cluster import cluster_report
from monitoring.tables import COLUMNS, shown, span
from realtime import api, conf
from realtime.exceptions import BackplaneUnavailable
from realtime.runtime import runtime

ROOMS_SHOWN = 100

Query = Mapping[str, str]


def cluster(query: Query) -> str:
    """Nodes, their health, and totals."""
    report = cluster_report(timezone.now(), conf.current().node_timeout_seconds, runtime().heard())
    total = report.total
    rows = [
        {
            "node": node,
            "age": span(node.age_seconds),
            "uptime": span(node.uptime_seconds),
            "cells": [(column, column.of(node.figures)) for column in COLUMNS],
            "checks": [
                (found, shown(found.figure, found.unit), shown(found.limit, found.unit), node.age_of(found))
                for found in node.health
            ],
        }
        for node in report.nodes
    ]
    totals = [(column, column.of(total, len(rows))) for column in COLUMNS]
    context = {"report": report, "rows": rows, "columns": COLUMNS, "totals": totals}
    return render_to_string("monitoring/admin/cluster_fragment.html", context)


def rooms(query: Query) -> str:
    """Rooms over the cluster with their number of members."""
    prefix, after = query.get("q", ""), query.get("after", "")
    try:
        found = api.list_rooms(prefix=prefix, limit=ROOMS_SHOWN, after=after)
    except BackplaneUnavailable as error:
        return render_to_string("monitoring/admin/unavailable.html", {"error": error})
    return render_to_string("monitoring/admin/rooms_fragment.html", {"found": found, "prefix": prefix})


@dataclass(frozen=True, slots=True)
class Fragment:
    """``render`` makes it of the page's query; ``permission`` is what it takes to see it."""

    render: Callable[[Query], str]
    permission: str


FRAGMENTS: Mapping[str, Fragment] = {
    "cluster": Fragment(cluster, "monitoring.view_cluster"),
    "rooms": Fragment(rooms, "monitoring.view_room"),
}
