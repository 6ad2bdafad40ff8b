"""What a node writes about its connections."""

from __future__ import annotations

import json
from typing import Any

from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import eventually
from tests.conftest import StartCluster
from tests.support.cluster import DaphneNode

SECRET = "the-secret-of-this-message"


def objects(node: DaphneNode) -> list[dict[str, Any]]:
    """Every line of its log that is JSON."""
    return [json.loads(line) for line in node.log.splitlines() if line.startswith("{")]


async def test_a_connection_is_two_lines_of_json(start_cluster: StartCluster, connect: Connect) -> None:
    """One when it opens, one when it ends, with who, where, how long, why and how much; none for a message."""
    node = start_cluster(nodes=1, environment={"LOG_FORMAT": "json"}).nodes[0]
    client = await connect(node.url)
    await client.join("lobby")
    await client.do("room", room="lobby", data=SECRET, echo=True)
    await client.expect("room", data=SECRET)
    await client.send_raw('{"type":"' + SECRET + '"}')
    await client.expect("error")
    await client.send_raw("no json " + SECRET)
    await client.expect("error")
    await client.close()

    def of_it() -> list[dict[str, Any]]:
        return [line for line in objects(node) if line.get("id") == client.id]

    await eventually(lambda: len(of_it()) >= 2, "both lines are there")
    opened, closed = of_it()
    for line in (opened, closed):
        assert (line["node"], line["level"], line["user"]) == (client.node, "INFO", None)
        assert (line["address"], line["transport"]) == ("127.0.0.1", "websocket")
    assert (opened["event"], closed["event"]) == ("connection_opened", "connection_closed")
    assert (closed["code"], closed["reason"], closed["rooms"]) == (1000, "", 1)
    assert 0 < closed["seconds"] < 60
    assert (closed["messages_in"], closed["messages_out"]) == (4, len(client.texts))
    assert closed["bytes_in"] > len(SECRET) * 3
    assert closed["bytes_out"] > len(SECRET)
    assert SECRET not in node.log
    assert all(line["node"] == client.node for line in objects(node) if line["logger"] == "realtime.node")


async def test_text_lines_have_the_node(start_cluster: StartCluster, connect: Connect) -> None:
    """The same in words, which is the default."""
    node = start_cluster(nodes=1).nodes[0]
    client = await connect(node.url)
    opened = f"INFO    {client.node} realtime.runtime connection_opened id={client.id} user=None address=127.0.0.1"
    await eventually(lambda: opened in node.log, "the line is there")
    assert objects(node) == []
