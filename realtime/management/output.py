"""How the commands that ask nodes speak: a table for people, JSON for machines, and one line for what went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import msgspec
from django.core.management.base import CommandError, CommandParser, OutputWrapper

from realtime.api import ANSWER_SECONDS
from realtime.cluster import Listing
from realtime.exceptions import BackplaneUnavailable, RealtimeError
from realtime.protocol.envelope import LISTED_MAX
from realtime.protocol.errors import CommandRefused


def add_asking(parser: CommandParser) -> None:
    """The options of every command that asks nodes."""
    parser.add_argument("--json", action="store_true", help="for machines: one JSON object")
    parser.add_argument(
        "--within",
        type=float,
        default=ANSWER_SECONDS,
        metavar="SECONDS",
        help="how long nodes are waited for (%(default)s)",
    )


def add_paging(parser: CommandParser, first_column: str) -> None:
    """The options of every list."""
    parser.add_argument(
        "--limit", type=int, default=100, help=f"entries to list, up to {LISTED_MAX:,} (%(default)s; 0: only count)"
    )
    parser.add_argument("--after", default="", metavar=first_column.upper(), help="begin after this one")


@contextmanager
def refusals_as_errors() -> Iterator[None]:
    """What the interface raises, as one line and exit status 1."""
    try:
        yield
    except CommandRefused as refusal:
        raise CommandError(f"{refusal.code}: {refusal.message}") from refusal
    except BackplaneUnavailable as error:
        raise CommandError(f"unavailable: {error}. Is the backplane (BACKPLANE_URL) running?") from error
    except (RealtimeError, ValueError) as error:
        raise CommandError(str(error)) from error


def write_json(out: OutputWrapper, answer: object) -> None:
    """One line."""
    out.write(msgspec.json.encode(answer).decode())


def write_table(out: OutputWrapper, titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Numbers to the right, everything else to the left."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[index]) for row in [list(titles), *cells]) for index in range(len(titles))]
    are_numbers = [all(isinstance(row[index], int | float) for row in rows) for index in range(len(titles))]
    for row in [list(titles), *cells]:
        columns = zip(row, widths, are_numbers, strict=True)
        line = "  ".join(text.rjust(width) if is_number else text.ljust(width) for text, width, is_number in columns)
        out.write(line.rstrip())


def write_silence(error: OutputWrapper, listing: Listing) -> None:
    """Say what is missing in a list, if anything is."""
    if listing.silent:
        error.write(f"Partial: no answer in time from {', '.join(listing.silent)}.")
    elif listing.is_partial:
        error.write("Partial: not every node has answered in time.")


def seconds(value: float) -> str:
    """A time span as people read it; none is negative, whatever the clocks of two hosts say."""
    return str(timedelta(seconds=max(round(value), 0)))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
