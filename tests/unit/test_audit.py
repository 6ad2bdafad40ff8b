"""The look at the dependencies that `make check` takes."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import pytest

from devtools import audit
from devtools.audit import ADVISORIES, Accepted, Finding, Pin, below_mended, findings_in, not_accepted, read_pins
from tests.support.processes import CHECKOUT

TODAY = datetime.date(2026, 11, 25)
DAPHNE = Pin("daphne", "4.2.2", "requirements.txt:1")
FINDING = Finding(DAPHNE, ("PYSEC-1", "CVE-1"), ("4.2.3",))


@pytest.mark.parametrize(
    "line", ["daphne", "daphne>=4.2.3", "daphne~=4.2", "daphne==4.*", "daphne==4.2.3,<5", "./daphne", "-e ."]
)
def test_a_requirement_that_is_not_pinned_is_named(tmp_path: Path, line: str) -> None:
    """Anything but one exact version is told with its file and line."""
    (tmp_path / "r.txt").write_text(f"# some\n-r other.txt\n{line}  # why\n")
    pins, complaints = read_pins([tmp_path / "r.txt"])
    assert pins == []
    assert complaints == [f"r.txt:3: {line!r} is not pinned exactly"]


def test_pins_are_read_with_extras_and_markers(tmp_path: Path) -> None:
    """What pip allows behind a name and a version does not hide it."""
    (tmp_path / "r.txt").write_text('PyJWT[crypto]==2.15.1\n\nZope.Interface==8.7; sys_platform == "linux"  # x\n')
    pins, complaints = read_pins([tmp_path / "r.txt"])
    assert pins == [Pin("pyjwt", "2.15.1", "r.txt:1"), Pin("zope-interface", "8.7", "r.txt:3")]
    assert complaints == []


@pytest.mark.parametrize(("version", "is_found"), [("4.2.2", True), ("4.2", True), ("4.2.3", False), ("4.10", False)])
def test_a_pin_below_a_mended_release_is_found(version: str, is_found: bool) -> None:
    """What is known to be mended must not come back, with or without a network."""
    known = [{"package": "Daphne", "version": "4.2.3", "advisories": ["CVE-1"]}]
    assert bool(list(below_mended([Pin("daphne", version, "r.txt:1")], known))) is is_found


def test_what_the_service_knows_is_found() -> None:
    """An advisory is told with all its names, and with what mends it."""
    vulnerable = {"name": "Daphne", "version": "4.2.2"}
    vulnerable["vulns"] = [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["4.2.3"]}]  # type: ignore[assignment]
    report = {"dependencies": [vulnerable, {"name": "x", "skip_reason": "not found"}, {"name": "y", "vulns": []}]}
    assert list(findings_in(report, [DAPHNE])) == [FINDING]
    assert str(FINDING) == "requirements.txt:1: daphne 4.2.2: PYSEC-1, CVE-1; mended in 4.2.3"


@pytest.mark.parametrize(
    ("advisory", "package", "days", "is_told"),
    [
        ("CVE-1", "daphne", 0, False),
        ("PYSEC-1", "Daphne", 30, False),
        ("CVE-1", "daphne", -1, True),
        ("CVE-2", "daphne", 30, True),
        ("CVE-1", "channels", 30, True),
    ],
)
def test_an_advisory_is_accepted_until_a_day(advisory: str, package: str, days: int, is_told: bool) -> None:
    """By any of its names, for its package, and up to the day that stands there."""
    accepted = [Accepted(advisory, package, "because", TODAY + datetime.timedelta(days))]
    assert bool(not_accepted([FINDING], accepted, TODAY)) is is_told


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    """A directory with requirements that are fine."""
    for name in audit.FILES:
        (tmp_path / name).write_text("")
    return tmp_path


def test_without_an_answer_the_output_says_so(
    requirements: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No network is no failure, but nobody may think that something was looked up."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert audit.main(requirements, ADVISORIES) == 0
    assert capsys.readouterr().out.startswith("NOT AUDITED: ")
    (requirements / "requirements.txt").write_text("daphne==4.2.2\n")
    assert audit.main(requirements, ADVISORIES) == 1
    assert "CVE-2026-44545" in capsys.readouterr().out


def test_our_own_requirements_are_pinned() -> None:
    """Every file that pip is given."""
    pins, complaints = read_pins(CHECKOUT / name for name in audit.FILES)
    assert complaints == []
    assert {"daphne", "pyjwt", "pamqp", "aiokafka", "ruff"} <= {pin.name for pin in pins}
