"""Debian's RabbitMQ as a private process: files, ports and port mapper (epmd) of its own, no broker of the system."""

from __future__ import annotations

from pathlib import Path

SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one on the path insists on a user of its own


def private_environment(directory: Path, *, port: int, mapper_port: int, distribution_port: int) -> dict[str, str]:
    """The variables that keep the broker, its port mapper and its tools to this directory and these ports."""
    return {
        "HOME": str(directory),  # of the cookie
        "RABBITMQ_NODENAME": f"t{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "ERL_EPMD_PORT": str(mapper_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "logs"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "advanced"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "environment"),
        # The script then becomes the broker, which the kernel can end with us, instead of its parent.
        "RABBITMQ_ALLOW_INPUT": "1",
        "RABBITMQ_SERVER_START_ARGS": "-noinput",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2",
    }
