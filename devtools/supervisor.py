"""Starts programs one after the other, keeps them alive, and ends all of them: circus, used as a library.

Circus starts, watches and kills the processes. What it does not do is here: one program waits for another,
stopping has an order and a deadline, and a signal that arrives at any moment is obeyed (circus' own handler
forgets a signal that arrives while it starts or restarts something).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from circus.arbiter import Arbiter
from circus.exc import ConflictError
from circus.watcher import Watcher
from tornado.ioloop import IOLoop

from devtools.options import CHECKOUT, CannotRun
from devtools.ports import HOST
from devtools.programs import Program
from devtools.tied import kill_group

CHECK_SECONDS = 0.5
# Deaths of one program before it was up once that mean: it will never be.
EARLY_DEATHS = 1


class PatientArbiter(Arbiter):  # type: ignore[misc]  # circus has no types
    """Circus' arbiter, that skips a look at its processes while it is busy with one instead of failing."""

    def manage_watchers(self) -> Any:
        with contextlib.suppress(ConflictError):
            return super().manage_watchers()
        return None


class Supervisor:
    """The programs of one `make run`. Lives inside a running asyncio loop."""

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        logging.getLogger("circus").setLevel(logging.WARNING)
        self.tell = tell  # prints one line: the name of a program and what happened to it
        self.programs: dict[str, Program] = {}
        self.deaths: dict[str, int] = {}  # by name of program
        self.is_up: set[str] = set()  # names of programs that accepted a connection once
        # No sockets of circus' own: it is steered from this process only.
        self.arbiter = PatientArbiter(
            [], "inproc://control", "inproc://events", check_delay=CHECK_SECONDS, loop=IOLoop.current()
        )

    async def open(self) -> None:
        await self.arbiter.start()

    async def start(self, program: Program) -> None:
        """Start the program and wait until its port answers; CannotRun with its last lines if it does not."""
        program.write_files()
        self.programs[program.name] = program
        self.deaths[program.name] = 0
        watcher = self._watcher(program)
        watcher.initialize(self.arbiter.evpub_socket, self.arbiter.sockets, self.arbiter)
        self.arbiter.watchers.append(watcher)
        self.arbiter._watchers_names[watcher.name.lower()] = watcher
        await self._when_circus_is_free(watcher.start)
        deadline = time.monotonic() + program.start_seconds
        while not await _accepts(program.port):
            if self.deaths[program.name] >= EARLY_DEATHS or time.monotonic() > deadline:
                raise CannotRun(f"{program.name} does not start. The end of {program.log}:\n{last_lines(program)}")
            await asyncio.sleep(0.05)
        self.is_up.add(program.name)
        self.tell(program.name, f"{program.address}  (process {self.pid(program.name)})")

    def pid(self, name: str) -> int | None:
        """The process that runs the program at this moment."""
        watcher = self.arbiter._watchers_names.get(name.lower())
        return next(iter(watcher.processes), None) if watcher else None

    async def stop(self, names: Sequence[str]) -> None:
        """End these programs at the same time: SIGTERM, then SIGKILL when their time is over."""
        self.arbiter._stopping = True  # nothing is started again from here on
        watchers = [watcher for watcher in self.arbiter.watchers if watcher.name in names]
        await asyncio.gather(*(asyncio.ensure_future(watcher._stop()) for watcher in watchers))

    def kill(self) -> None:
        """End everything at once."""
        for watcher in self.arbiter.watchers:
            watcher.graceful_timeout = 0
            for pid in list(watcher.processes):
                kill_group(pid)

    def close(self) -> None:
        self.kill()
        self.arbiter.stop_controller_and_close_sockets()

    def _watcher(self, program: Program) -> Any:
        command, *arguments = program.tied_command()
        hooks = {"after_spawn": (self._spawned, True), "after_reap": (self._reaped, True)}
        return Watcher(
            program.name,
            shlex.quote(command),
            args=arguments,
            env={**os.environ, **program.environment},
            working_dir=str(CHECKOUT),
            graceful_timeout=program.stop_seconds,
            hooks=hooks,
            loop=self.arbiter.loop,
        )

    def _spawned(self, watcher: Any, pid: int, **_: Any) -> bool:
        if self.deaths[watcher.name]:
            self.tell(watcher.name, f"started again  (process {pid})")
        return True

    def _reaped(self, watcher: Any, process_pid: int, exit_code: int | None, **_: Any) -> bool:
        kill_group(process_pid)  # what it may have left: nginx' workers, when the master was killed
        self.deaths[watcher.name] += 1
        if not self.arbiter._stopping:
            self.tell(watcher.name, f"ended  (process {process_pid}, {_describe(exit_code)})")
        return True

    async def _when_circus_is_free(self, command: Callable[[], Awaitable[Any]]) -> None:
        while True:
            with contextlib.suppress(ConflictError):
                await command()
                return
            await asyncio.sleep(0.02)


def last_lines(program: Program, count: int = 15) -> str:
    """The end of the program's log."""
    try:
        lines = program.log.read_text(errors="replace").splitlines()
    except OSError:
        return "(nothing)"
    return "\n".join(f"    {line}" for line in lines[-count:]) or "(nothing)"


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(HOST, port), 1.0)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _describe(exit_code: int | None) -> str:
    if exit_code is None:
        return "unknown exit status"
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit status {exit_code}"
