"""Does what docs/your-project.md says: runs its commands, writes its files, starts its servers.

A fenced block is a file when the line before it ends in the file's path and a colon; "At the end of" adds to that file.
`sh` blocks are commands, which must succeed; `sh server` is a command that stays. Ports are replaced by free ones, and
nothing else is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devtools.ports import free_port
from tests.support.cluster import clean_environment, http_status
from tests.support.processes import CHECKOUT, ServerProcess

DOCUMENT = CHECKOUT / "docs" / "your-project.md"
PARTS = re.compile(r"^## (?P<title>.+)$|^```(?P<kind>.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE)
FILE = re.compile(r"(?P<end>At the end of )?`(?P<path>[\w./-]+)`:\n\n\Z")
LEFT_OUT = ("MAKE", "MFLAGS", "PYTHON", "VIRTUAL_ENV")
COMMAND_SECONDS = 400


@dataclass(frozen=True)
class Block:
    """One fenced block, under the last heading before it; ``path`` is empty for commands."""

    section: str
    kind: str
    text: str
    path: str = ""
    is_appended: bool = False


def blocks() -> list[Block]:
    """All blocks of the document, in order."""
    document, section, found = DOCUMENT.read_text(), "", []
    for part in PARTS.finditer(document):
        if part["title"]:
            section = part["title"]
            continue
        file = FILE.search(document, 0, part.start())
        named = (file["path"], bool(file["end"])) if file else ("", False)
        found.append(Block(section, part["kind"], part["text"], *named))
    return found


def clone(directory: Path) -> Path:
    """A copy of the checkout without what Git ignores, so that building leaves nothing in the checkout."""
    ignored = shutil.ignore_patterns(
        ".*", "__pycache__", "node_modules", "var", "dist", "build", "*.egg-info", "*.sqlite3*"
    )
    return Path(shutil.copytree(CHECKOUT, directory, ignore=ignored))


def user_environment(**more: str) -> dict[str, str]:
    """What a user's shell has: nothing of this process's Python, of make, or of our settings. Without compiling what is
    installed pip takes half the time."""
    variables = {name: value for name, value in clean_environment().items() if not name.startswith(LEFT_OUT)}
    path = f"{sys.base_prefix}/bin:{os.environ['PATH']}"
    return {**variables, "PATH": path, "PYTHONUNBUFFERED": "1", "PIP_NO_COMPILE": "1", **more}


class Server(ServerProcess):
    """A server of the document, as a user starts it in a terminal."""

    def __init__(self, command: str, directory: Path, environment: Mapping[str, str]) -> None:
        port = re.search(r"--port (\d+)", command)
        assert port is not None, command
        self.port = int(port[1])
        words = ["bash", "-c", f"cd '{directory}' && exec env {command}"]
        super().__init__(command, words, environment, directory.parent / f"server-{self.port}.log")

    def wait_ready(self, path: str = "/health/ready") -> None:
        self.wait_until(lambda: http_status(self.port, path) == 200, "ready", 60)


class Walk:
    """Somebody who follows the document in ``directory``, with a Redis of their own."""

    def __init__(self, directory: Path, redis_port: int) -> None:
        self.directory = directory
        self.clone = clone(directory / "clone")
        self.project = directory / "mysite"
        self.ports = {"8001": str(free_port()), "8002": str(free_port()), "6379": str(redis_port)}
        self.environment = user_environment(CLONE=str(self.clone), VENV=sys.prefix, SYSTEM_PYTHON=sys.executable)
        self.servers: list[Server] = []
        self.said: list[str] = []
        (directory / "cwd").write_text(str(directory))
        (directory / "variables").touch()

    @property
    def python(self) -> Path:
        """Of the environment with the wheel."""
        return self.project / ".venv" / "bin" / "python"

    def follow(self, *sections: str) -> None:
        """Do what these sections say."""
        for block in blocks():
            if block.section in sections:
                self._do(block)

    def restart_servers(self) -> None:
        """As one does after a change."""
        for server in self.servers:
            server.stop(60)
        for server in self.servers:
            server.spawn()
        for server in self.servers:
            server.wait_ready()

    def stop(self) -> None:
        for server in self.servers:
            server.kill()

    def _do(self, block: Block) -> None:
        text = re.sub(r"\b(8001|8002|6379)\b", lambda found: self.ports[found[1]], block.text)
        if block.kind == "sh":
            self.said.append(self.run(text))
        elif block.kind == "sh server":
            self.servers.append(Server(text.strip(), self.project, self.environment))
            self.servers[-1].spawn()
            self.servers[-1].wait_ready()
        else:
            file = self.project / block.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text((file.read_text() + "\n" if block.is_appended else "") + text)

    def call(self, *words: str, directory: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the Python of the walk in its project, or in another one."""
        return subprocess.run(
            [str(self.python), *words],
            cwd=directory or self.project,
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )

    def run(self, commands: str) -> str:
        """Run commands in the shell of the walk, which remembers its directory and variables; what they say."""
        cwd, variables = self.directory / "cwd", self.directory / "variables"
        script = f"cd '{cwd.read_text().strip()}'; . '{variables}'; set -eux\n{commands}\n"
        script += f"set +x; pwd > '{cwd}'; export -p > '{variables}'\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout
