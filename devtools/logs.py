"""Follows the programs' log files and shows what a person should see: warnings, errors, tracebacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

# "2026-11-23 20:05:27,123 WARNING realtime.node …" as Django, or as daphne before Django's logging is set up.
# With LOG_FORMAT=JSON: '{"at": "2026-11-23T20:05:27.123+00:00", "level": "WARNING", …'.
RECORD = re.compile(r'(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ +|\{"at": "[^"]+", "level": ")(?P<level>[A-Z]+)[ "]')
QUIET_LEVELS = frozenset({"DEBUG", "INFO"})
LINES_AT_ONCE = 30


class LogFollower:
    """New lines of one file that belong to records above INFO, or to none (a crash before any logging)."""

    def __init__(self, path: Path, show: Callable[[str], None]) -> None:
        self.path = path
        self.show = show
        self.offset = 0  # bytes of the file that were read
        self.is_quiet = False  # whether the record at hand is not worth showing

    def look(self) -> None:
        """Show what came since the last look; of a flood only the beginning."""
        lines = list(self._new_lines())
        for line in lines[:LINES_AT_ONCE]:
            self.show(line)
        if len(lines) > LINES_AT_ONCE:
            self.show(f"… and {len(lines) - LINES_AT_ONCE} more lines in {self.path}")

    def _new_lines(self) -> Iterator[str]:
        for line in self._read().splitlines():
            record = RECORD.match(line)
            if record is not None:
                self.is_quiet = record["level"] in QUIET_LEVELS
            if not self.is_quiet and line.strip():
                yield line

    def _read(self) -> str:
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            content = file.read()
        complete = content.rfind(b"\n") + 1
        self.offset += complete
        return content[:complete].decode(errors="replace")
