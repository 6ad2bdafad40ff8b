"""Looks at the dependencies: `python -m devtools.audit`, a part of `make check`.

1. Every requirement is pinned exactly. 2. None is below a release that devtools/advisories.toml knows to have mended
something. 3. pip-audit asks its service for advisories of each. What is found and not accepted fails the check.

Without an answer of the service in time the third look does not happen, and the output says so: a machine without a
network can still check the rest.
"""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
FILES = ("requirements.txt", "requirements-rabbitmq.txt", "requirements-kafka.txt", "requirements-dev.txt")
ADVISORIES = Path(__file__).with_name("advisories.toml")
PINNED = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[\w,-]+\])?==(\d[\w.+!]*)(?:\s*;.*)?")
SERVICE_SECONDS = 5
ALL_SECONDS = 15


class Unanswered(Exception):
    """The service did not say what it knows."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One requirement. ``where`` is its file and line."""

    name: str
    version: str
    where: str


@dataclass(frozen=True, slots=True)
class Finding:
    """An advisory that concerns a pin; ``ids`` has all its names."""

    pin: Pin
    ids: tuple[str, ...]
    mended_in: tuple[str, ...] = ()

    def __str__(self) -> str:
        cure = f"mended in {', '.join(self.mended_in)}" if self.mended_in else "nothing mends it yet"
        return f"{self.pin.where}: {self.pin.name} {self.pin.version}: {', '.join(self.ids)}; {cure}"


@dataclass(frozen=True, slots=True)
class Accepted:
    """An advisory that we live with until a day."""

    advisory: str
    package: str
    reason: str
    expires: datetime.date


def read_pins(paths: Iterable[Path]) -> tuple[list[Pin], list[str]]:
    """Every requirement of these files, and a complaint for each that is not exactly pinned."""
    pins, complaints = [], []
    for path in paths:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            wanted = line.partition(" #")[0].strip()
            if not wanted or wanted.startswith(("#", "-r ")):
                continue
            found = PINNED.fullmatch(wanted)
            if found is None:
                complaints.append(f"{path.name}:{number}: {wanted!r} is not pinned exactly")
            else:
                pins.append(Pin(_normal(found[1]), found[2], f"{path.name}:{number}"))
    return pins, complaints


def below_mended(pins: Iterable[Pin], known: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Pins below a release that mended something."""
    mended = {_normal(each["package"]): each for each in known}
    for pin in pins:
        each = mended.get(pin.name)
        if each is not None and _release(pin.version) < _release(each["version"]):
            yield Finding(pin, tuple(each["advisories"]), (each["version"],))


def findings_in(report: Mapping[str, Any], pins: Iterable[Pin]) -> Iterator[Finding]:
    """What pip-audit reports."""
    by_name = {pin.name: pin for pin in pins}
    for dependency in report["dependencies"]:
        for each in dependency.get("vulns", ()):
            pin = by_name[_normal(dependency["name"])]
            yield Finding(pin, (each["id"], *each.get("aliases", ())), tuple(each.get("fix_versions", ())))


def not_accepted(findings: Iterable[Finding], accepted: Sequence[Accepted], today: datetime.date) -> list[Finding]:
    """Findings that nobody accepted, or not for today."""
    holding = {(_normal(each.package), each.advisory) for each in accepted if each.expires >= today}
    return [each for each in findings if not any((each.pin.name, advisory) in holding for advisory in each.ids)]


def ask_service(paths: Iterable[Path], seconds: float = ALL_SECONDS) -> Mapping[str, Any]:
    """pip-audit's report. Raises Unanswered, in words, when there is none."""
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--format", "json"]
    command += ["--progress-spinner", "off", "--timeout", str(SERVICE_SECONDS)]
    for path in paths:
        command += ["--requirement", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Unanswered(f"no answer within {seconds:g} s") from None
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise Unanswered((done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]) from None
    if not isinstance(report, dict) or "dependencies" not in report:
        raise Unanswered("it answered something else")
    if report["dependencies"] and all("skip_reason" in each for each in report["dependencies"]):
        raise Unanswered("pip-audit's service found none of them")
    return report


def main(directory: Path, advisories: Path) -> int:
    """Say what is wrong with the requirements in this directory; the exit status."""
    known = tomllib.loads(advisories.read_text())
    accepted = [Accepted(**each) for each in known.get("accepted", ())]
    paths = [directory / name for name in FILES]
    pins, complaints = read_pins(paths)
    findings = list(below_mended(pins, known.get("mended", ())))
    try:
        report = ask_service(paths)
        findings += findings_in(report, pins)
    except Unanswered as reason:
        print(f"NOT AUDITED: no advisories were looked up ({reason}). Pins and known advisories were checked.")
    else:
        unknown = [each["name"] for each in report["dependencies"] if "skip_reason" in each]
        print(f"{len(report['dependencies']) - len(unknown)} dependencies were looked up.")
        if unknown:
            print(f"NOT AUDITED, as the service did not find them: {', '.join(unknown)}.")
    complaints += map(str, not_accepted(findings, accepted, datetime.date.today()))
    for complaint in complaints:
        print(complaint)
    return 1 if complaints else 0


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _release(version: str) -> tuple[int, ...]:
    """The numbers at its beginning; enough to compare releases."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


if __name__ == "__main__":
    sys.exit(main(CHECKOUT, ADVISORIES))
