"""daphne's command line on another event loop."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import assert_no_traceback
from tests.support.cluster import Cluster
from tests.support.servers import RedisServer

MODULE = "realtime.server.daphne_on_uvloop"


async def test_daphne_on_uvloop(redis_server: RedisServer, connect: Connect) -> None:
    """The launcher's node runs on uvloop, and serves, drains and ends as any other."""
    cluster = Cluster(redis_server.url, nodes=1)
    node = cluster.nodes[0]
    node.command[1:2] = ["-m", MODULE]  # instead of daphne's script, with the same arguments
    with cluster:
        assert re.search(r"/uvloop/loop\..*\.so", Path(f"/proc/{node.pid}/maps").read_text())
        one, other = await connect(node.url), await connect(node.url)
        for client in (one, other):
            await client.join("uvloop")
        await one.do("room", room="uvloop", data="here")
        assert (await other.expect("room"))["data"] == "here"
        node.terminate()
        assert await one.closed() == (1012, "Service restart")
        assert await asyncio.to_thread(node.wait) == 0
        assert_no_traceback(cluster)
