"""Packages from npm for tests, installed when the first test needs them."""

from __future__ import annotations

import functools
import shutil
import subprocess
import threading
from pathlib import Path

from tests.support.processes import CHECKOUT
from tests.support.servers import require

INSTALL_SECONDS = 180
_installing = threading.Lock()  # clients are started side by side, and two npm in one directory spoil each other's work


@functools.cache
def node_with(directory: str) -> tuple[str, Path]:
    """The path of node, and of the directory under tests/, with what its package.json names installed in it."""
    node = require(shutil.which("node"), "node is not installed")
    npm = require(shutil.which("npm"), "npm is not installed")
    path = CHECKOUT / "tests" / directory
    with _installing:
        _install(npm, path)
    return node, path


def _install(npm: str, path: Path) -> None:
    stamp, wanted = path / "node_modules" / ".installed", path / "package.json"
    if stamp.exists() and stamp.read_text() == wanted.read_text():
        return
    shutil.rmtree(path / "node_modules", ignore_errors=True)  # what an installation that was broken off left
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run([npm, "install", *options], cwd=path, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    require("done" if done.returncode == 0 else None, f"npm install failed: {done.stderr[-500:]}")
    stamp.write_text(wanted.read_text())
