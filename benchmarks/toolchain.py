"""What has to be made before the first run: two C programs, the Node packages, an environment for python-socketio.

Everything lands in directories that Git ignores. What cannot be made is a `Missing` with the reason; the program then
goes on without the peers that need it (without a compiler it cannot go on).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
LOAD = BUILD / "load"
LIMIT = BUILD / "limit"
VENV = HERE / ".venv"
INSTALL_SECONDS = 180


class Missing(Exception):
    """Something that a benchmark needs is not on this machine; the text says what and what to do."""


def compile_programs() -> None:
    """Compile the load generator and the C limit, if they are older than their sources."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Missing(
            "no C compiler (cc, gcc or clang) on the path: install one, on Debian `apt install gcc libc6-dev`"
        )
    BUILD.mkdir(exist_ok=True)
    for program, directory in ((LOAD, HERE / "load"), (LIMIT, HERE / "limit")):
        sources = sorted(directory.glob("*.[ch]"))
        if program.exists() and program.stat().st_mtime > max(source.stat().st_mtime for source in sources):
            continue
        code = [str(source) for source in sources if source.suffix == ".c"]
        _run([compiler, "-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE", "-o", str(program), *code], "compiling failed")


def install_node_packages() -> str:
    """Install what package.json names; returns the path of node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Missing("node and npm are not on the path")
    stamp, wanted = HERE / "node_modules" / ".installed", HERE / "package.json"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        options = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        _run([npm, "install", *options], "npm install failed")
        stamp.write_text(wanted.read_text())
    return node


def install_python_peer() -> str:
    """Install requirements.txt into an environment of its own; returns the path of its Python."""
    python = VENV / "bin" / "python"
    stamp, wanted = VENV / "installed", HERE / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        _run([sys.executable, "-m", "venv", str(VENV)], "no virtual environment for python-socketio")
        _run([str(python), "-m", "pip", "install", "-q", "-r", str(wanted)], "pip install failed")
        stamp.write_text(wanted.read_text())
    return str(python)


def _run(command: Sequence[str], problem: str) -> None:
    try:
        subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.CalledProcessError as error:
        raise Missing(f"{problem}: {(error.stderr or error.stdout).strip()[-2000:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{problem}: {error}") from error
