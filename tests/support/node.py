"""Packages for Node.js that a test needs, installed by npm at its first use into a directory that Git ignores."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.processes import CHECKOUT
from tests.support.servers import require

INSTALL_SECONDS = 180.0
KAFKAJS = "kafkajs@2.2.4"


def modules_with(package: str) -> Path:
    """The node_modules with `package` (`name@version`); without npm the test is skipped, or fails where CI=true."""
    npm = require(shutil.which("npm"), "npm is not installed")
    directory = CHECKOUT / "var" / "node" / package
    stamp = directory / "installed"
    if not stamp.exists():
        directory.mkdir(parents=True, exist_ok=True)
        options = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(directory)]
        made = subprocess.run(
            [npm, "install", *options, package], capture_output=True, text=True, timeout=INSTALL_SECONDS
        )
        require("installed" if made.returncode == 0 else None, f"npm cannot install {package}: {made.stderr[-1000:]}")
        stamp.touch()
    return directory / "node_modules"
