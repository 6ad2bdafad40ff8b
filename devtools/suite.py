"""Runs the tests: `python -m devtools.suite --workers 2 -m "not slow" tests`.

First those that may run beside each other, in so many processes; then, one after the other, those that measure (marked
`alone`). The end is that of both. All other arguments are those of pytest.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

NO_TESTS = 5
"""What pytest ends with when its arguments select none."""


def main(arguments: list[str]) -> int:
    """0 when all tests passed, and there were some."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--workers", default="2")
    parser.add_argument("-m", dest="expression", default="")
    own, others = parser.parse_known_args(arguments)
    only = f"({own.expression}) and " if own.expression else ""
    beside = _pytest("-n", own.workers, "-m", f"{only}not alone", *others)
    alone = _pytest("-m", f"{only}alone", *others)
    return end_of(beside, alone)


def end_of(*parts: int) -> int:
    """What a run in parts ends with: the first failure, or 0 when there were tests in any part."""
    return next((end for end in parts if end not in (0, NO_TESTS)), min(parts))


def _pytest(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-W", "error::SyntaxWarning", "-m", "pytest", *arguments]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
