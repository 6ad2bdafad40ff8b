"""`make run`: a backplane, the nodes and a balancer on this machine, until Ctrl-C.

1. Read the variables, find the programs and look at every port, before anything is started.
2. Migrate the database and make the admin.
3. Start the backplane, then the nodes, then the balancer; each is up before the next one starts.
4. Wait for SIGINT, SIGTERM or SIGHUP; meanwhile circus starts again what ended, and warnings in the logs
   are shown.
5. Stop the nodes (their clients are told), then the balancer, then the backplane. A second signal kills what is
   left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

from devtools.balancers import find_balancer
from devtools.brokers import Backplane, find_backplane
from devtools.logs import LogFollower
from devtools.options import CHECKOUT, CannotRun, Options, check_ports, read_options
from devtools.programs import Program, node
from devtools.supervisor import Supervisor
from devtools.tied import catches, end_with_parent

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_SECONDS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devtools.run", description=__doc__.splitlines()[0])
    parser.add_argument("--end-with-parent", action="store_true", help="also end when make was killed")
    make = os.getppid() if parser.parse_args().end_with_parent else None
    if make is not None:
        end_with_parent(signal.SIGTERM, make)
    try:
        options = read_options()
        balancer = find_balancer(options)
        check_ports(wanted_ports(options, with_balancer=balancer is not None))
        backplane = find_backplane(options)
        with run_directory(options):
            tell("database", f"{prepare_database(options)}")
            asyncio.run(Cluster(options, backplane, balancer, make).run())
    except CannotRun as error:
        sys.exit(f"make run: {error}")


def tell(name: str, text: str) -> None:
    print(f"{name:<10} {text}", flush=True)


def wanted_ports(options: Options, *, with_balancer: bool) -> dict[int, str]:
    """Every port that will be listened on, and the variable that sets it."""
    wanted = dict.fromkeys(options.node_ports, "NODE_PORT")
    pairs = [(options.port, "PORT"), (options.internal_port, "INTERNAL_PORT")] if with_balancer else []
    if options.backplane_port and not options.backplane_url:
        pairs.append((options.backplane_port, "BACKPLANE_PORT"))
    for port, variable in pairs:
        if port in wanted:
            raise CannotRun(f"{variable} and {wanted[port]} both ask for port {port}")
        wanted[port] = variable
    return wanted


@contextlib.contextmanager
def run_directory(options: Options) -> Iterator[None]:
    """The run directory with last time's logs removed, for one `make run` at a time."""
    options.run_dir.mkdir(parents=True, exist_ok=True)
    with (options.run_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotRun(f"another one uses {options.run_dir}; choose another directory: RUN_DIR=…") from None
        for log in options.run_dir.glob("*.log"):
            log.unlink()
        yield


def prepare_database(options: Options) -> str:
    """Migrate and make the admin, in a process of its own; the line that it prints says how to log in."""
    password_file = options.run_dir / "admin-password"
    command = [sys.executable, "-m", "devtools.prepare", str(password_file)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotRun(done.stderr.strip())
    return f"migrated; admin login: {done.stdout.strip()}"


class Cluster:
    """What runs between the first line and the last."""

    def __init__(self, options: Options, backplane: Backplane, balancer: Program | None, make: int | None) -> None:
        self.options = options
        self.backplane = backplane
        self.balancer = balancer
        self.make = make  # the process that called us, when it is to be watched
        self.followers: list[LogFollower] = []
        self.signals = 0
        self.signalled = asyncio.Event()

    async def run(self) -> None:
        supervisor = Supervisor(tell)
        self._listen_to_signals(supervisor)
        watching = [asyncio.create_task(self._watch_logs(), name="logs")]
        if self.make is not None and catches(self.make, signal.SIGINT):
            watching.append(asyncio.create_task(self._watch_make(self.make, supervisor), name="make"))
        try:
            await supervisor.open()
            await self._unless_signalled(self._start(supervisor))
            await self.signalled.wait()
        finally:
            await self._stop(supervisor)
            for task in watching:
                task.cancel()

    async def _start(self, supervisor: Supervisor) -> None:
        if self.backplane.remark:
            tell("backplane", self.backplane.remark)
        for program in self.backplane.programs:
            await self._start_one(supervisor, program)
        for number in range(1, self.options.nodes + 1):
            await self._start_one(supervisor, node(self.options, number, self.backplane.url))
        if self.balancer:
            await self._start_one(supervisor, self.balancer)
        else:
            tell("nginx", "not on the path, so there is no balancer: use the nodes' addresses above")
        first = self.options.port if self.balancer else self.options.node_port
        tell("ready", f"http://127.0.0.1:{first}/  (logs in {self.options.run_dir}; Ctrl-C ends all of it)")

    async def _start_one(self, supervisor: Supervisor, program: Program) -> None:
        if program not in self.backplane.programs:
            self.followers.append(LogFollower(program.log, lambda line: tell(program.name, f"| {line}")))
        await supervisor.start(program)

    async def _unless_signalled(self, work: object) -> None:
        """Wait for the work, but not longer than until a signal comes."""
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        signalled = asyncio.create_task(self.signalled.wait())
        await asyncio.wait({task, signalled}, return_when=asyncio.FIRST_COMPLETED)
        signalled.cancel()
        if task.done():
            task.result()
        else:
            task.cancel()

    def _listen_to_signals(self, supervisor: Supervisor) -> None:
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, supervisor)

    def _on_signal(self, supervisor: Supervisor) -> None:
        self.signals += 1
        self.signalled.set()
        if self.signals == 1:
            tell("stopping", "once more to kill what is left")
        else:
            supervisor.kill()

    async def _stop(self, supervisor: Supervisor) -> None:
        backplane = [program.name for program in self.backplane.programs]
        balancer = [self.balancer.name] if self.balancer else []
        others = {*backplane, *balancer}
        await supervisor.stop([name for name in supervisor.programs if name not in others])
        await supervisor.stop(balancer)
        for name in reversed(backplane):
            await supervisor.stop([name])
        supervisor.close()
        tell("stopped", "every process has ended")

    async def _watch_make(self, make: int, supervisor: Supervisor) -> None:
        """Notice a SIGINT that was sent to make alone: make then gives up its handler and waits for us to end."""
        while catches(make, signal.SIGINT):  # noqa: ASYNC110  nobody tells us
            await asyncio.sleep(LOOK_SECONDS)
        if not self.signals:
            self._on_signal(supervisor)

    async def _watch_logs(self) -> None:
        while True:
            for follower in self.followers:
                follower.look()
            await asyncio.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    main()
