"""pyproject.toml asks for what the applications import, in ranges around what is tested."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
OURS = ("realtime", "monitoring")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LINES = [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]
WANTED = {canonicalize_name(Requirement(line).name): Requirement(line) for line in LINES}
PIN = re.compile(r"^(?P<name>[\w.-]+)(?:\[[\w,]+\])?==(?P<version>[\w.]+)", re.MULTILINE)


def pins() -> dict[str, Version]:
    """What the requirements files pin."""
    texts = [path.read_text() for path in ROOT.glob("requirements*.txt")]
    return {canonicalize_name(pin["name"]): Version(pin["version"]) for text in texts for pin in PIN.finditer(text)}


@pytest.mark.parametrize("name", WANTED)
def test_a_range_begins_with_the_pin(name: NormalizedName) -> None:
    """Each range goes from the version that requirements*.txt pins to below the next major one."""
    pin = pins()[name]
    assert {(each.operator, each.version) for each in WANTED[name].specifier} == {
        (">=", str(pin)),
        ("<", str(pin.major + 1)),
    }


def test_what_is_imported_is_asked_for() -> None:
    """Each module that realtime and monitoring import, lazily or not, comes with a dependency or an extra, and each of
    these has a module that is imported."""
    providers = packages_distributions()
    found = {module: {canonicalize_name(name) for name in providers[module]} for module in imported_modules()}
    assert [module for module, names in found.items() if names.isdisjoint(WANTED)] == []
    assert set(WANTED) <= {name for names in found.values() for name in names}


def imported_modules() -> set[str]:
    """The top-level modules of others that any file of ours imports."""
    found: set[str] = set()
    for path in (path for package in OURS for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - set(OURS)


def test_socketio_needs_nothing() -> None:
    """The extra is there for those who look for it, and is empty."""
    assert EXTRAS["socketio"] == []
