"""What `make run` does: the cluster on this machine, one line for each thing, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import psutil
import pytest

from devtools.ports import free_ports_in_a_row
from tests.support.cluster import clean_environment, require_program
from tests.support.processes import CHECKOUT, accepts

START_SECONDS = 60.0
END_SECONDS = 10.0  # promised to the person who presses Ctrl-C


class MakeRun:
    """`python -m devtools.run`, which `make run` calls once its environment is there."""

    def __init__(self, directory: Path, environment: Mapping[str, str], command: list[str] | None = None) -> None:
        self.node_port = free_ports_in_a_row(5)
        self.port = self.node_port + 3
        self.internal_port = self.node_port + 4
        self.run_dir = directory / "run"
        variables = {
            **clean_environment(),
            "PORT": str(self.port),
            "INTERNAL_PORT": str(self.internal_port),
            "NODE_PORT": str(self.node_port),
            "RUN_DIR": str(self.run_dir),
            "DATABASE_URL": f"sqlite:///{directory / 'db.sqlite3'}",
            **environment,
        }
        self.lines: list[str] = []
        self.descendants: set[psutil.Process] = set()  # everything it was seen to have started
        self.process = subprocess.Popen(
            command or [sys.executable, "-m", "devtools.run"],
            cwd=CHECKOUT,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._arrived: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first line from here on that the pattern matches."""
        deadline = time.monotonic() + START_SECONDS
        while (line := self._next(deadline)) is not None:
            self.lines.append(line)
            if found := re.search(pattern, line):
                self._look_around()
                return found
        pytest.fail(f"no line matches {pattern!r}:\n" + "\n".join(self.lines), pytrace=False)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send the signal and return the exit status, which must come in the time that was promised."""
        self._look_around()
        self.process.send_signal(number)
        status: int = self.process.wait(END_SECONDS)
        return status

    def rest(self) -> str:
        """Everything that it has written and will write."""
        while (line := self._next(time.monotonic() + START_SECONDS)) is not None:
            self.lines.append(line)
        return "\n".join(self.lines)

    def assert_nothing_is_left(self) -> None:
        """No process that it has started lives on; those that the kernel ends get a moment."""
        assert self.descendants
        _, alive = psutil.wait_procs(self.descendants, timeout=5)
        assert not alive, alive
        for port in (self.port, self.internal_port, self.node_port):
            assert not accepts(port)

    def node_pid(self, number: int) -> int:
        """The process that listens on the node's port."""
        port = str(self.node_port + number - 1)
        children = psutil.Process(self.process.pid).children(recursive=True)
        for child in children:
            with contextlib.suppress(psutil.Error):  # it has just ended
                if port in child.cmdline():
                    pid: int = child.pid
                    return pid
        pytest.fail(f"nobody listens on port {port}", pytrace=False)

    def cleanup(self) -> None:
        if self.process.poll() is None:
            self._look_around()
            self.process.kill()
            self.process.wait(END_SECONDS)
        for each in self.descendants:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()

    def _next(self, deadline: float) -> str | None:
        """The next line; None at its end, or when the time is over."""
        with contextlib.suppress(queue.Empty):
            return self._arrived.get(timeout=max(0.01, deadline - time.monotonic()))
        return None

    def _look_around(self) -> None:
        self.descendants.update(psutil.Process(self.process.pid).children(recursive=True))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._arrived.put(line.rstrip("\n"))
        self.process.stdout.close()
        self._arrived.put(None)


StartMakeRun = Callable[..., MakeRun]


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[StartMakeRun]:
    """Starts `make run` on free ports with these variables, and ends what is left of it after the test."""
    started: list[MakeRun] = []

    def start(command: list[str] | None = None, **environment: str) -> MakeRun:
        started.append(MakeRun(tmp_path, environment, command))
        return started[-1]

    yield start
    for each in started:
        each.cleanup()


def path_without(directory: Path, *missing: str) -> str:
    """A PATH with every program of the present one but these."""
    directory.mkdir()
    for part in os.environ["PATH"].split(os.pathsep):
        for program in Path(part).glob("*"):
            link = directory / program.name
            if program.name not in missing and not link.is_symlink():
                link.symlink_to(program)
    return str(directory)


def test_the_whole_cluster_comes_up_and_goes_down(make_run: StartMakeRun) -> None:
    """Each thing started has a line with its address; the page and the admin are there; Ctrl-C ends all of it."""
    require_program("nginx")
    run = make_run()
    login = run.wait_for(r"^database .*admin login: user admin, password (\S+)$")
    run.wait_for(r"^backplane +redis://127\.0\.0\.1:\d+/0 ")
    for number in (1, 2, 3):
        run.wait_for(rf"^node {number} +http://127\.0\.0\.1:{run.node_port + number - 1}/ ")
    run.wait_for(rf"^nginx +http://127\.0\.0\.1:{run.port}/ .*http://127\.0\.0\.1:{run.internal_port}/admin/")
    run.wait_for(r"^ready ")

    assert httpx.get(f"http://127.0.0.1:{run.port}/").status_code == 200
    assert log_in(f"http://127.0.0.1:{run.internal_port}", login[1])
    assert run.end(signal.SIGINT) == 0
    run.assert_nothing_is_left()


def test_a_killed_node_is_started_again(make_run: StartMakeRun) -> None:
    """A node that was killed is back under another process id, and so is nginx with its workers."""
    require_program("nginx")
    run = make_run(NODES="2")
    nginx = int(run.wait_for(r"^nginx .*process (\d+)")[1])
    run.wait_for(r"^ready ")
    before = run.node_pid(2)
    os.kill(before, signal.SIGKILL)
    run.wait_for(rf"^node 2 +ended .*{before}, killed by SIGKILL")
    run.wait_for(r"^node 2 +started again")
    assert run.node_pid(2) != before
    until_ok(f"http://127.0.0.1:{run.node_port + 1}/")

    os.kill(nginx, signal.SIGKILL)
    run.wait_for(r"^nginx +started again")
    until_ok(f"http://127.0.0.1:{run.port}/")
    assert run.end(signal.SIGTERM) == 0
    run.assert_nothing_is_left()


def test_it_needs_neither_nginx_nor_redis(make_run: StartMakeRun, tmp_path: Path) -> None:
    """Without those programs on the path it brings its own backplane and prints the nodes' addresses."""
    run = make_run(NODES="1", PATH=path_without(tmp_path / "bin", "nginx", "redis-server"))
    run.wait_for(r"^backplane +redis://")
    run.wait_for(rf"^node 1 +http://127\.0\.0\.1:{run.node_port}/ ")
    run.wait_for(r"^nginx +not on the path")
    run.wait_for(rf"^ready +http://127\.0\.0\.1:{run.node_port}/")
    assert any("valkey-server" in " ".join(each.cmdline()) for each in run.descendants)
    assert run.end(signal.SIGTERM) == 0
    run.assert_nothing_is_left()


def test_haproxy_instead_of_nginx(make_run: StartMakeRun) -> None:
    """BALANCER=haproxy starts HAProxy on the same ports, and starts it again when it was killed."""
    require_program("haproxy")
    run = make_run(NODES="2", BALANCER="haproxy")
    login = run.wait_for(r"^database .*admin login: user admin, password (\S+)$")
    haproxy = int(run.wait_for(rf"^haproxy +http://127\.0\.0\.1:{run.port}/ .*process (\d+)")[1])
    run.wait_for(rf"^ready +http://127\.0\.0\.1:{run.port}/")
    assert httpx.get(f"http://127.0.0.1:{run.port}/").status_code == 200
    assert log_in(f"http://127.0.0.1:{run.internal_port}", login[1])
    os.kill(haproxy, signal.SIGKILL)
    run.wait_for(r"^haproxy +started again")
    until_ok(f"http://127.0.0.1:{run.port}/")
    assert run.end(signal.SIGINT) == 0
    run.assert_nothing_is_left()


def test_one_node_without_a_broker(make_run: StartMakeRun) -> None:
    """BACKPLANE=memory starts one node and no broker, and the demo page says what it is on."""
    run = make_run(BACKPLANE="memory")
    run.wait_for(r"^backplane +memory://")
    run.wait_for(r"^ready ")
    assert not any(line.startswith("node 2") for line in run.lines)
    assert "Memory (one process)" in httpx.get(f"http://127.0.0.1:{run.node_port}/").text
    assert run.end(signal.SIGTERM) == 0
    run.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("environment", "package"),
    [
        ({"BALANCER": "haproxy"}, "haproxy"),
        ({"BALANCER": "nginx"}, "nginx"),
    ],
)
def test_what_is_missing_is_named(
    make_run: StartMakeRun, tmp_path: Path, environment: dict[str, str], package: str
) -> None:
    """A program that was asked for and is not there is one line that says what to install."""
    run = make_run(PATH=path_without(tmp_path / "bin", package), **environment)
    assert run.process.wait(START_SECONDS) == 1
    assert f"apt-get install {package}" in run.rest()
    assert len(run.lines) == 1


def test_nothing_outlives_a_killed_supervisor(make_run: StartMakeRun) -> None:
    """When the supervisor itself is killed, the nodes, nginx and the backplane end too."""
    run = make_run(NODES="1")
    run.wait_for(r"^ready ")
    run.end(signal.SIGKILL)
    run.assert_nothing_is_left()


def test_a_signal_while_starting_is_obeyed(make_run: StartMakeRun) -> None:
    """Ctrl-C before everything is up ends what is up so far, in the same time."""
    run = make_run()
    run.wait_for(r"^backplane ")
    assert run.end(signal.SIGINT) == 0
    assert "ready" not in run.rest()
    run.assert_nothing_is_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_make_alone_is_enough(make_run: StartMakeRun, tmp_path: Path, number: signal.Signals) -> None:
    """A signal that reaches only make, not what it has started, ends everything as well."""
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"run:\n\t@exec '{sys.executable}' -m devtools.run --end-with-parent\n")
    run = make_run([require_program("make"), "-f", str(makefile)], NODES="1")
    run.wait_for(r"^ready ")
    run.end(number)
    run.assert_nothing_is_left()


@pytest.mark.parametrize("variable", ["NODE_PORT", "BACKPLANE_PORT"])
def test_a_taken_port_is_named_before_anything_starts(make_run: StartMakeRun, variable: str) -> None:
    """The error is one line that names the port and the variable; neither database nor process is made."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = make_run(**{variable: str(port), "NODES": "1"})
        assert run.process.wait(START_SECONDS) == 1
    assert re.fullmatch(rf"make run: port {port} \({variable}\) is taken .*{variable}=.*", run.rest())
    assert not run.run_dir.exists()


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"NODES": "none"}, "make run: NODES must be"),
        ({"BALANCER": "apache"}, "make run: BALANCER must be one of nginx, haproxy"),
        ({"BACKPLANE": "pigeons"}, "make run: BACKPLANE must be one of redis, rabbitmq, kafka, memory"),
        ({"BACKPLANE": "memory", "NODES": "2"}, "make run: BACKPLANE=memory joins nothing"),
        ({"BACKPLANE": "redis", "BACKPLANE_URL": "redis://127.0.0.1"}, "make run: BACKPLANE says what to start"),
        ({"NODE_PORT": "65535"}, "make run: NODE_PORT=65535 leaves no room"),
        ({"REALTIME_HEARTBEAT_SECONDS": "never"}, "make run: REALTIME_HEARTBEAT_SECONDS must be"),
        ({"DATABASE_URL": "sqlite:////nowhere/db.sqlite3"}, "make run: the database cannot be prepared"),
    ],
)
def test_a_bad_variable_is_one_line(make_run: StartMakeRun, environment: dict[str, str], line: str) -> None:
    """A variable that cannot be used ends it with exit status 1 and one line that names it."""
    run = make_run(**environment)
    assert run.process.wait(START_SECONDS) == 1
    assert run.rest().startswith(line)
    assert len(run.lines) == 1


def log_in(address: str, password: str) -> bool:
    """Whether the admin opens for the user admin."""
    with httpx.Client(base_url=address, follow_redirects=True) as client:
        client.get("/admin/login/")
        form = {"username": "admin", "password": password, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        page = client.post("/admin/login/?next=/admin/", data=form, headers={"Referer": address})
        return page.status_code == 200 and str(page.url).endswith("/admin/")


def until_ok(address: str) -> None:
    """Returns when the address answers 200."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(address).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail(f"{address} does not answer with 200")
