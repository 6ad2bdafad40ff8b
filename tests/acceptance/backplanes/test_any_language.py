"""The examples of docs/backplanes.md for services in other languages, run as they are written."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.backplanes.conftest import Kind
from tests.acceptance.conftest import Connect
from tests.support.cluster import Cluster
from tests.support.node import KAFKAJS, modules_with
from tests.support.processes import CHECKOUT
from tests.support.servers import Server, require

PAGE = CHECKOUT / "docs" / "backplanes.md"
PYTHON = Path(sys.executable)


@dataclass(frozen=True)
class Example:
    """One code block of the page."""

    language: str  # of the block
    mark: str  # a line in it
    program: str | None  # that runs it, given on its standard input
    needs: str  # besides the program
    name: str  # in it, with the prefix of this cluster in place of the default one
    renamed: str
    sender: str
    data: str
    package: str = ""  # of npm, that it needs


EXAMPLES = {
    "redis": Example(
        *("sh", "redis-cli", shutil.which("sh"), "redis-cli"),
        *("asgi__group__", "{prefix}__group__", "shell", "over Redis"),
    ),
    "rabbitmq": Example(
        *("python", "import pika", str(PYTHON), str(PYTHON)),
        *('exchange="websocket"', 'exchange="{prefix}.websocket"', "pika", "over RabbitMQ"),
    ),
    "kafka": Example(
        *("js", 'require("kafkajs")', shutil.which("node"), "node"),
        *("asgi__group__", "{prefix}__group__", "kafkajs", "over Kafka"),
        package=KAFKAJS,
    ),
}


async def test_the_example_reaches_the_room(cluster: Cluster, broker: Server, kind: Kind, connect: Connect) -> None:
    """Copied from the page, with this cluster's prefix, it reaches a member of the room on every node."""
    example = EXAMPLES[kind.name]
    clients = [await (await connect(node.url)).join("lobby") for node in cluster.nodes]
    await run(example, broker.url, cluster.prefix)
    for client in clients:
        push = await client.expect("room", room="lobby")
        assert (push["from"], push["data"]) == (example.sender, example.data)


async def run(example: Example, url: str, prefix: str) -> None:
    """Run the block of the page that has the mark."""
    program = require(example.program, f"nothing runs {example.language}")
    require(shutil.which(example.needs), f"{example.needs} is not installed")
    blocks = re.findall(rf"^```{example.language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    [text] = [block for block in blocks if example.mark in block]
    assert text.count(example.name) == 1
    environment = {**os.environ, "BACKPLANE_URL": url}
    if example.package:
        environment["NODE_PATH"] = str(await asyncio.to_thread(modules_with, example.package))
    process = await asyncio.create_subprocess_exec(
        program,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
    )
    written = text.replace(example.name, example.renamed.format(prefix=prefix)).encode()
    output, _ = await asyncio.wait_for(process.communicate(written), 30)
    assert process.returncode == 0, output.decode()
