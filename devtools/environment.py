"""Creates or updates the virtual environment: `python3 devtools/environment.py .venv requirements-dev.txt`.

Runs on the system's Python with nothing but the standard library. A stamp in the environment holds the hash
of the requirements that were installed, so a second call only compares two hashes.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)


def main(venv: Path, requirements: Path) -> None:
    if sys.version_info < OLDEST:
        sys.exit(
            f"{sys.executable} is Python {sys.version.split()[0]}; 3.11 or newer is needed. "
            "Name another one: make SYSTEM_PYTHON=python3.11 …"
        )
    with requirements.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two calls of make at the same time
        prepare(venv, requirements)


def prepare(venv: Path, requirements: Path) -> None:
    """Make `venv` hold exactly what `requirements` asks for, unless it does already."""
    wanted = fingerprint(requirements)
    stamp = venv / "requirements.sha256"
    if works(venv) and stamp.is_file() and stamp.read_text() == wanted:
        return
    if not works(venv):
        create(venv)
    print(f"Installing {requirements} into {venv} …", flush=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*pip, "-r", str(requirements)]).returncode != 0:
        sys.exit(f"{requirements} could not be installed; the lines above say why.")
    stamp.write_text(wanted)


def create(venv: Path) -> None:
    print(f"Creating the virtual environment {venv} …", flush=True)
    shutil.rmtree(venv, ignore_errors=True)
    if subprocess.run([sys.executable, "-m", "venv", str(venv)]).returncode != 0:
        shutil.rmtree(venv, ignore_errors=True)
        sys.exit("Python's venv module does not work. On Debian: apt-get install python3-venv")


def works(venv: Path) -> bool:
    """Whether the Python in it starts, is new enough and has pip; a moved or half-made one does not."""
    python = venv / "bin" / "python"
    if not python.exists():
        return False
    test = f"import pip, sys; sys.exit(sys.version_info < {OLDEST!r})"
    return subprocess.run([str(python), "-c", test], capture_output=True).returncode == 0


def fingerprint(requirements: Path) -> str:
    """Hash of the file and of every file that it includes by `-r`."""
    content = requirements.read_bytes()
    digest = hashlib.sha256(content)
    for name in re.findall(rb"^-r\s+(\S+)", content, re.MULTILINE):
        digest.update(fingerprint(requirements.parent / name.decode()).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
