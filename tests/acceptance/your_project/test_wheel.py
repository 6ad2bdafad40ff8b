"""What the distributions hold, and what pip makes of them."""

from __future__ import annotations

import json
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from realtime import __version__
from tests.acceptance.your_project.document import Walk
from tests.support.processes import CHECKOUT

OURS = ("realtime", "monitoring")


@pytest.fixture(scope="module")
def wheel(installed: Walk) -> Path:
    """The one that `make wheel` has built."""
    [path] = (installed.clone / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> frozenset[str]:
    with zipfile.ZipFile(wheel) as file:
        return frozenset(file.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as file:
        [name] = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(file.read(name).decode())


def test_the_wheel_has_everything_of_both_applications(names: frozenset[str]) -> None:
    """Each file of realtime and monitoring is in the wheel: code, migrations, commands, templates,
    static files, rules, types; without tests of the rules."""
    found = (path for package in OURS for path in (CHECKOUT / package).rglob("*") if path.is_file())
    wanted = {str(path.relative_to(CHECKOUT)) for path in found if "__pycache__" not in path.parts}
    wanted -= {"monitoring/prometheus/rules_test.yml"}
    assert wanted
    assert {name for name in names if ".dist-info/" not in name} == wanted


def test_the_wheel_has_nothing_else(names: frozenset[str]) -> None:
    """No tests, no demo, no settings and no tools of this repository."""
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(OURS)


def test_the_metadata(metadata: Message) -> None:
    """Name, version, Python, readme and extras are there; no address, and no upload."""
    assert (metadata["Name"], metadata["Version"]) == ("django-realtime-cluster", __version__)
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_all("Provides-Extra") == ["rabbitmq", "kafka", "socketio", "uvicorn"]
    assert metadata.get_all("Project-URL") is None
    assert "Private :: Do Not Upload" in (metadata.get_all("Classifier") or [])


def test_build_and_twine_are_content(installed: Walk) -> None:
    """`python -m build` and `twine check --strict` pass, the second for both distributions, without a warning."""
    said = installed.said[0]
    assert "Successfully built django_realtime_cluster-" in said
    assert said.count("PASSED") == 2
    assert "warning" not in said.lower()


def test_the_source_distribution_builds_the_same(installed: Walk, names: frozenset[str]) -> None:
    """The wheel was made from it: it has all that the wheel has."""
    [path] = (installed.clone / "dist").glob("*.tar.gz")
    with tarfile.open(path) as file:
        held = {name.partition("/")[2] for name in file.getnames()}
    assert {name for name in names if ".dist-info/" not in name} <= held


def test_a_clean_environment_is_consistent(installed: Walk) -> None:
    """In a new environment with nothing else `pip check` finds nothing, and both applications can be imported."""
    assert "No broken requirements found." in installed.said[0]
    done = installed.call("-m", "pip", "check", directory=installed.directory)
    assert (done.returncode, done.stdout) == (0, "No broken requirements found.\n")


def test_extras_bring_their_library(installed: Walk, wheel: Path) -> None:
    """pip finds what all extras together need, beside what is installed, libraries of backplanes among it."""
    wanted = f"{wheel}[rabbitmq,kafka,socketio,uvicorn]"
    done = installed.call("-m", "pip", "install", "--quiet", "--dry-run", "--report", "-", wanted)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {"pamqp", "aiokafka"} <= {each["metadata"]["name"] for each in report["install"]}
