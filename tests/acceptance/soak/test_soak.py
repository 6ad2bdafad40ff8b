"""A cluster of three nodes on Redis and SQLite, under everything at once, for a minute or as long as wanted.

`SOAK_SECONDS` is how long (60; `make soak` takes 300). The seed is printed, and `--seed` repeats the program.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.acceptance.crash.rows import connection_rows
from tests.acceptance.nodes import assert_no_traceback, use_application
from tests.acceptance.soak.program import Act, Disturbance, draw
from tests.acceptance.soak.rows import assert_closed_once_per_life, watch_rows
from tests.acceptance.soak.soak import Soak
from tests.acceptance.soak.vitals import Held
from tests.conftest import CLUSTERS
from tests.support.cluster import Cluster
from tests.support.servers import RedisServer

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
MIB = 1024 * 1024
GROWTH = {"memory": 3 * MIB, "blocks": 4_000, "files": 6, "threads": 2, "tasks": 5}
WARM_SHARE = 3  # one round in three is for warming up, but WARM_LEAST at least
WARM_LEAST = 3
ENVIRONMENT = {
    "REALTIME_HEARTBEAT_SECONDS": "1",
    "REALTIME_NODE_TIMEOUT_SECONDS": "4",
    "REALTIME_TRACKING_FLUSH_SECONDS": "0.2",
    "REALTIME_TRACKING_REFRESH_SECONDS": "1",
    "REALTIME_BACKLOG_MAX_BYTES": "262144",
    "REALTIME_PING_INTERVAL_SECONDS": "5",
}
"""A quarter of the default times; and a backlog that a client which does not read can exceed in a second."""


@pytest.fixture
def cluster(request: pytest.FixtureRequest, own_redis: RedisServer) -> Iterator[Cluster]:
    """Three nodes that say what they hold, with a database that notes what happens to rows."""
    cluster = Cluster(own_redis.url, nodes=3, environment=ENVIRONMENT)
    request.node.stash.setdefault(CLUSTERS, []).append(cluster)
    with use_application(cluster, "tests.acceptance.soak.application:application"):
        watch_rows(cluster)
        yield cluster


@pytest.mark.slow
async def test_everything_at_once(
    cluster: Cluster, own_redis: RedisServer, rng: random.Random, pytestconfig: pytest.Config
) -> None:
    """Whatever clients, nodes and Redis do: nothing is lost without a word, rows and figures are right at every look,
    nobody is left at the end, and what the nodes hold that lived through all of it does not grow."""
    print(f"seed {pytestconfig.option.seed}, {SECONDS:g} s")
    program = draw(rng, SECONDS)
    soak = Soak(cluster, own_redis, rng)
    for number, round_ in enumerate(program, 1):
        await soak.run(round_)
        print(f"round {number}: {round_.disturbance.name:10} {said(soak)}")
    await soak.finish()
    print(f"the end:             {said(soak)}")
    rows = connection_rows(cluster)
    assert not any(row.is_live for row in rows.values())
    print(f"close codes: {sorted(Counter(row.close_code for row in rows.values()).items())}")
    reopened = assert_closed_once_per_life(cluster, rows)
    print(f"{len(rows)} rows, {reopened} reopened; {soak.ledger.acked} acknowledged, {soak.ledger.came} arrived")
    assert_no_traceback(cluster)
    assert soak.told > 0
    assert reopened > 0
    for node in range(2):  # these lived through all of it
        assert_flat([look[node] for look in soak.looks])


def said(soak: Soak) -> str:
    look = soak.looks[-1]
    return (
        f"{len(soak.welcomed)} connections so far, {len(soak.talkers)} there;"
        f" MiB {[round(each.memory / MIB, 1) for each in look]}, blocks {[each.blocks for each in look]},"
        f" files {[each.files for each in look]},"
        f" threads {[each.threads for each in look]}, tasks {[each.tasks for each in look]}"
    )


def assert_flat(looks: list[Held]) -> None:
    """After the warm-up nothing grows beyond what it was at its highest until then, but for a little.

    Each look has made sure that no connection, socket, writer or protocol of a client is left; this finds the rest. A
    warm-up of three rounds has had Redis down and a node frozen.
    Blocks are Python's small objects. A client that is there has some dozens, so that 20 more or less are a thousand; 8
    left of each of the 500 clients and more that a node sees after the warm-up of the shortest run are too many.
    Memory is compared after a garbage collection, with free memory given back. What is left moves by 1 or 2 MiB, as a
    heap has holes where peaks were (a flood, a crowd, a burst after an outage); 6 KiB left of each client are too much.
    The limits stay the same for longer runs, which find smaller leaks.
    Files, threads and tasks: a thread that talks to the database may come late, and opens three files in SQLite. What
    clients leave would be hundreds.
    """
    warm = max(WARM_LEAST, len(looks) // WARM_SHARE)
    for name, more in GROWTH.items():
        before, after = ([getattr(look, name) for look in part] for part in (looks[:warm], looks[warm:]))
        assert max(after) <= max(before) + more, f"{name}: {before}, and then {after}"


def test_a_seed_is_a_program() -> None:
    """The same seed gives the same rounds, another one others; each program has all that can happen."""
    one, again, other = (draw(random.Random(seed), 60) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    for program in (one, other):
        assert {round_.disturbance for round_ in program} == set(Disturbance)
        assert {step.act for round_ in program for step in round_.steps} == set(Act)
