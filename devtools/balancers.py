"""The balancers that `make run` starts, each with our own template, as the user who calls."""

from __future__ import annotations

import os
import resource
import shutil

import haproxy.render
import nginx.render
from devtools.options import CannotRun, Options
from devtools.ports import HOST
from devtools.programs import Program

OTHERS_FILES = 1_024  # open files that are not connections


def find_balancer(options: Options) -> Program | None:
    """The balancer as a program; None where nobody asked for one and nginx is not there."""
    name = options.balancer or "nginx"
    binary = shutil.which(name)
    if binary is None and options.balancer:
        raise CannotRun(f"BALANCER={name}: {name} is not on the path. On Debian: apt-get install {name} (in /usr/sbin)")
    return MAKERS[name](options, binary) if binary else None


def nginx_program(options: Options, binary: str) -> Program:
    """nginx, with all its files in the run directory."""
    site = nginx.render.Site(
        nodes=[f"{HOST}:{port}" for port in options.node_ports],
        run_dir=options.run_dir,
        static_root=options.run_dir / "static",  # not collected in development: the nodes have the latest
        public=f"{HOST}:{options.port}",
        internal=f"{HOST}:{options.internal_port}",
        user="root" if os.geteuid() == 0 else "",
        workers="1",
        connections=max(256, min(nginx.render.CONNECTIONS, open_files() - OTHERS_FILES)),
        address_connections=0,  # all clients are on this machine
        address_connects=0,
    )
    try:
        configuration = nginx.render.render(site)
    except ValueError as error:
        raise CannotRun(f"RUN_DIR: {error}") from error
    path = options.run_dir / "nginx.conf"
    log = options.run_dir / "nginx-error.log"
    return Program(
        name="nginx",
        command=[binary, "-e", str(log), "-p", str(options.run_dir), "-c", str(path), "-g", "daemon off;"],
        address=_address(options),
        port=options.port,
        log=log,
        files={path: configuration},
        parent_death="TERM",  # the master ends its workers; a killed one would leave them
    )


def haproxy_program(options: Options, binary: str) -> Program:
    """HAProxy as one process. Its page of statistics is on the internal side, at /haproxy."""
    site = haproxy.render.Site(
        nodes=[f"{HOST}:{port}" for port in options.node_ports],
        public=f"{HOST}:{options.port}",
        internal=f"{HOST}:{options.internal_port}",
        connections=max(128, min(haproxy.render.CONNECTIONS, (open_files() - OTHERS_FILES) // 2)),
    )
    path = options.run_dir / "haproxy.cfg"
    return Program(
        name="haproxy",
        command=[binary, "-db", "-f", str(path)],
        address=_address(options),
        port=options.port,
        log=options.run_dir / "haproxy.log",
        files={path: haproxy.render.render(site)},
    )


def open_files() -> int:
    """How many files a process may open here."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 10**6 if hard == resource.RLIM_INFINITY else hard


def _address(options: Options) -> str:
    return f"http://{HOST}:{options.port}/ (internal: http://{HOST}:{options.internal_port}/admin/)"


MAKERS = {"nginx": nginx_program, "haproxy": haproxy_program}
