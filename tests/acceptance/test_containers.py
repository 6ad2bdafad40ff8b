"""Dockerfile and compose.yaml, without containers: what the image has in it, and what is started with what."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devtools.ports import free_port
from tests.support.cluster import clean_environment, require_program
from tests.support.processes import CHECKOUT, ServerProcess, accepts

DOCKERFILE = (CHECKOUT / "Dockerfile").read_text().replace("\\\n", "")
SECRETS = {"DJANGO_SECRET_KEY": "k" * 60, "DATABASE_PASSWORD": "secret"}


def instructions(name: str) -> list[str]:
    """What follows a word of the Dockerfile, each time that it stands there."""
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)


def compose() -> dict[str, Any]:
    """compose.yaml, with its variables filled in."""

    def value(found: re.Match[str]) -> str:
        name, _, default = found[1].partition(":-")
        return SECRETS.get(name.partition(":?")[0], default)

    document: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{([^}]+)\}", value, (CHECKOUT / "compose.yaml").read_text()))
    return document


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what the image has in its working directory."""
    directory = tmp_path_factory.mktemp("image")
    for line in instructions("COPY"):
        *sources, target = line.split()
        for source in sources:
            origin = CHECKOUT / source
            if origin.is_dir():
                shutil.copytree(origin, directory / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(origin, directory / target)
    collect = next(line for line in instructions("RUN") if "collectstatic" in line)
    run(collect.replace("python ", f"{sys.executable} "), directory)
    return directory


def run(command: str, directory: Path) -> str:
    environment = {**clean_environment(), "DJANGO_DEBUG": "0"}
    done = subprocess.run(
        ["sh", "-c", command], cwd=directory, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def port() -> int:
    """The node's."""
    return free_port()


@pytest.fixture
def node(image: Path, port: int, tmp_path: Path) -> Iterator[ServerProcess]:
    """What the compose file starts as a node, with a backplane and a database that need no server."""
    [started] = instructions("CMD")
    words: list[str] = json.loads(started)
    words = [str(port) if word == "8081" else word for word in words]
    own = {"BACKPLANE_URL": "memory://", "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}"}
    environment = {**clean_environment(), "DJANGO_DEBUG": "0", **compose()["services"]["node1"]["environment"], **own}
    environment = {name: str(value) for name, value in environment.items()}
    program = [sys.executable, str(Path(sys.executable).with_name(words[0])), *words[1:]]
    command = ["sh", "-c", f"cd {shlex.quote(str(image))} && exec {shlex.join(program)}"]
    process = ServerProcess("node1", command, environment, tmp_path / "log")
    process.spawn()
    yield process
    process.kill()


def test_a_node_of_the_image_is_healthy(node: ServerProcess, port: int) -> None:
    """With nothing but the files of the image and the variables of the compose file it becomes ready, as the compose
    file's own check finds."""
    node.wait_until(lambda: accepts(port), "listening")
    *_, source = compose()["services"]["node1"]["healthcheck"]["test"]
    command = [sys.executable, "-c", source.replace("8081", str(port))]

    def is_healthy() -> bool:
        return subprocess.run(command, env=node.environment, capture_output=True, timeout=30).returncode == 0

    node.wait_until(is_healthy, "healthy")


def test_nginx_takes_the_configuration(image: Path, tmp_path: Path) -> None:
    """The service that configures nginx leaves a configuration with all nodes in it, and the static files."""
    nginx = require_program("nginx")
    _, _, command = compose()["services"]["configure"]["command"]
    command = command.replace("/site", str(tmp_path)).replace("/run/realtime", str(tmp_path))
    run(command.replace("python ", f"{sys.executable} "), image)
    assert (tmp_path / "static" / "realtime" / "client.js").exists()
    text = (tmp_path / "nginx.conf").read_text()
    for number in (1, 2, 3):
        assert f"server node{number}:8081" in text
    # Names are looked up by `nginx -t`; here they are those of this machine.
    (tmp_path / "nginx.conf").write_text(re.sub(r"node\d:8081", f"127.0.0.1:{free_port()}", text))
    done = subprocess.run([nginx, "-t", "-c", str(tmp_path / "nginx.conf")], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_the_files_say_whether_they_were_run() -> None:
    """In their first line."""
    for name in ("Dockerfile", "compose.yaml"):
        assert re.match(r"# (Not run|Run) ", (CHECKOUT / name).read_text().splitlines()[0]), name
