"""What `make run` may be told by variables, and the ports that come of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devtools.ports import is_free

BACKPLANES = ("redis", "rabbitmq", "kafka", "memory")
BALANCERS = ("nginx", "haproxy")
CHECKOUT = Path(__file__).resolve().parent.parent


class CannotRun(Exception):
    """One line for the person at the terminal: what is wrong and what to do."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The variables of `make run`, checked."""

    port: int  # the balancer, for clients
    internal_port: int  # the balancer, for operators
    node_port: int  # of the first node; the others follow
    nodes: int
    backplane: str  # what to start, one of BACKPLANES
    backplane_url: str  # empty: start one
    backplane_port: int  # of the one that is started; 0: any free port
    balancer: str  # one of BALANCERS; empty: nginx if it is there
    run_dir: Path  # logs, pid files, the balancer's files

    @property
    def node_ports(self) -> list[int]:
        return [self.node_port + index for index in range(self.nodes)]


def read_options(environment: Mapping[str, str] = os.environ) -> Options:
    """The options from the environment; raises CannotRun on a bad one."""
    backplane = _word(environment, "BACKPLANE", BACKPLANES) or "redis"
    options = Options(
        port=_integer(environment, "PORT", 8080, 1, 65_535),
        internal_port=_integer(environment, "INTERNAL_PORT", 8090, 1, 65_535),
        node_port=_integer(environment, "NODE_PORT", 8081, 1, 65_535),
        nodes=_integer(environment, "NODES", 1 if backplane == "memory" else 3, 1, 64),
        backplane=backplane,
        backplane_url=environment.get("BACKPLANE_URL", "").strip(),
        backplane_port=_integer(environment, "BACKPLANE_PORT", 0, 0, 65_535),
        balancer=_word(environment, "BALANCER", BALANCERS),
        run_dir=Path(environment.get("RUN_DIR") or CHECKOUT / "var" / "run").absolute(),
    )
    if options.node_ports[-1] > 65_535:
        raise CannotRun(f"NODE_PORT={options.node_port} leaves no room for {options.nodes} nodes below 65536")
    if backplane == "memory" and options.nodes > 1:
        raise CannotRun("BACKPLANE=memory joins nothing: it is for one node, so leave NODES out")
    if options.backplane_url and environment.get("BACKPLANE", "").strip():
        raise CannotRun("BACKPLANE says what to start and BACKPLANE_URL what runs already: set one of them")
    return options


def check_ports(wanted: Mapping[int, str]) -> None:
    """Raise CannotRun for the first port that somebody listens on; `wanted` has ports and their variables."""
    for port, variable in wanted.items():
        if not is_free(port):
            raise CannotRun(
                f"port {port} ({variable}) is taken by another program. Stop that program, or choose another "
                f"port: make run {variable}=…"
            )


def _integer(environment: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    value = environment.get(name, "").strip() or str(default)
    if not value.isascii() or not value.isdecimal() or not least <= int(value) <= most:
        raise CannotRun(f"{name} must be a whole number from {least} to {most}, not {value!r}")
    return int(value)


def _word(environment: Mapping[str, str], name: str, allowed: Sequence[str]) -> str:
    value = environment.get(name, "").strip().lower()
    if value and value not in allowed:
        raise CannotRun(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
    return value
