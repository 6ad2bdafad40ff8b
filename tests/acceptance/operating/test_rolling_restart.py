"""All nodes are restarted, one after the other, while clients talk."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from websockets.exceptions import InvalidHandshake

from tests.acceptance.client import Client
from tests.acceptance.nodes import acquainted, assert_no_traceback
from tests.acceptance.operating.residents import (
    Residents,
    Stay,
    assert_no_gap,
    assert_nothing_acknowledged_is_missing,
    published_between,
)
from tests.support.cluster import Cluster, DaphneNode

CLIENTS = 9
SENDERS = 3
AWAY_SECONDS = 5.0


async def test_a_rolling_restart_under_traffic(
    cluster: Cluster, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between `joined` and the close frame nobody misses anything, nobody is away for more than 5 s, and whoever stays
    while others restart gets every message that was acknowledged."""
    assert cluster.nginx is not None
    await acquainted(cluster)
    residents = Residents(cluster.nginx.url, rng)
    windows: list[tuple[float, float]] = []
    try:
        for number in range(CLIENTS):
            await residents.enter(f"c{number}", is_sender=number < SENDERS)
        await residents.all_present()
        for node in cluster.nodes:
            await residents.more_traffic(50)
            began = time.monotonic()
            await restart(cluster, node, residents)
            windows.append((began, time.monotonic()))
        await residents.more_traffic(50)
        await residents.finish()
    finally:
        await residents.stop()
    stays = residents.all_stays
    ended = [stay for stay in stays if stay.closed_at < float("inf")]
    assert len(ended) >= CLIENTS  # everybody was sent away at least once
    assert {(stay.client.close_code, stay.client.connection.close_reason) for stay in ended} == {
        (1012, "Service restart")
    }
    assert [push for stay in stays for push in stay.client.pushes("missed", "error")] == []
    assert_no_gap(stays)
    assert assert_nothing_acknowledged_is_missing(stays) > 1_000
    for window in windows:
        assert stayed(stays, window)
    assert_no_traceback(cluster)
    away = [after.joined_at - before.closed_at for before, after in residents.absences()]
    missed = [published_between(stays, before, after) for before, after in residents.absences()]
    assert max(away) < AWAY_SECONDS
    with capsys.disabled():
        print(
            f"\nrolling restart: {len(away)} absences, {min(away):.2f} to {max(away):.2f} s; published meanwhile:"
            f" {sum(missed)} messages in all, {max(missed)} at most for one client"
        )


def stayed(stays: list[Stay], window: tuple[float, float]) -> list[Stay]:
    """Those who were there from before a restart until after it."""
    return [stay for stay in stays if stay.joined_at < window[0] and stay.closed_at > window[1]]


async def restart(cluster: Cluster, node: DaphneNode, residents: Residents) -> None:
    """End it as an operator does, start it, and wait until nginx sends clients there again (it looks after 5 s): the
    next one may go."""
    node.terminate()
    assert await asyncio.to_thread(node.wait, 20) == 0
    await asyncio.to_thread(node.start)
    await residents.all_present()
    assert cluster.nginx is not None
    async with asyncio.timeout(30):
        while not await is_reached(cluster.nginx.url, node):
            await asyncio.sleep(0.2)


async def is_reached(url: str, node: DaphneNode) -> bool:
    """Whether the next client comes to this node, which has the fewest."""
    try:
        client = await Client.connect(url)
    except InvalidHandshake:
        return False
    await client.close()
    return client.node.startswith(f"{node.name}-")
