"""What belongs to the names of both applications, looked at in the sources."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from realtime.clashes import COMMAND_PREFIX

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [ROOT / "realtime" / "management" / "commands", ROOT / "monitoring" / "management" / "commands"]


def test_each_command_has_a_second_name() -> None:
    """Each command is there with the prefix as well, and is the same."""
    for folder in FOLDERS:
        names = {path.stem for path in folder.glob("[!_]*.py")}
        short = {name for name in names if not name.startswith(COMMAND_PREFIX)}
        assert short
        assert names == short | {COMMAND_PREFIX + name for name in short}
        package = ".".join(folder.relative_to(ROOT).parts)
        for name in short:
            twin = import_module(f"{package}.{COMMAND_PREFIX}{name}")
            assert twin.Command is import_module(f"{package}.{name}").Command
