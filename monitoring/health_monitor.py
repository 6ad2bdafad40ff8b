"""Checks the node of this process at intervals, and puts what it found into the node's heartbeats."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence

from health_check.base import HealthCheckResult
from health_check.exceptions import HealthCheckException

from monitoring import health_checks as checks
from monitoring.collector import collector
from realtime.node import Node
from realtime.protocol.envelope import Health
from realtime.runtime import runtime

logger = logging.getLogger("monitoring.health")

FIRST_SECONDS = 2.0
"""A node that starts has that long to become ready before it is looked at."""


def checks_of(node: Node) -> list[checks.NodeCheck]:
    """What is checked, in the order in which people read it."""
    process = runtime()
    return [
        checks.Connections(node),
        checks.Memory(node),
        checks.Responsiveness(node, find_address=lambda: process.find_address(), secret=process.probe_secret),
        checks.Backplane(node),
        checks.Database(node),
        checks.LoopLag(node, take_worst=collector.instrument.take_worst_wake),
    ]


async def watch_health(node: Node) -> None:
    """Beside the node, as long as it runs: 1. let it start; 2. check everything at once; 3. wait, a little unevenly."""
    all_checks = checks_of(node)
    await asyncio.sleep(min(FIRST_SECONDS, node.settings.health_interval_seconds))
    while True:
        found = await look(all_checks)
        _log_changes(node.health, found)
        node.health = found
        await asyncio.sleep(node.settings.health_interval_seconds * random.uniform(0.95, 1.05))


async def look(all_checks: Sequence[checks.NodeCheck]) -> list[Health]:
    """Run all checks at once."""
    results = await asyncio.gather(*(check.get_result() for check in all_checks))
    return [_health(check, result) for check, result in zip(all_checks, results, strict=True)]


def _health(check: checks.NodeCheck, result: HealthCheckResult) -> Health:
    return Health(
        check=check.name,
        is_healthy=result.error is None,
        at=round(time.time(), 3),
        took_seconds=round(result.time_taken, 6),
        figure=None if check.figure is None else round(check.figure, 3),
        limit=check.limit,
        unit=check.unit,
        reason="" if result.error is None else _reason(result.error),
    )


def _reason(error: HealthCheckException) -> str:
    return str(error.message)


def _log_changes(before: Sequence[Health], found: Sequence[Health]) -> None:
    was_healthy = {health.check: health.is_healthy for health in before}
    for health in found:
        if health.is_healthy != was_healthy.get(health.check, True):
            if health.is_healthy:
                logger.info("health_restored check=%s", health.check)
            else:
                logger.warning("health_lost check=%s reason=%r", health.check, health.reason)
