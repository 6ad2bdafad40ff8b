"""Tables in the Markdown pages of docs/."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
_CELL = re.compile(r"(?<!\\)\|")


def tables(page: str) -> list[list[dict[str, str]]]:
    """Every table of ``docs/<page>``, as rows by the names of their columns; back quotes are taken off the cells."""
    found: list[list[dict[str, str]]] = []
    block: list[str] = []
    for line in [*(DOCS / page).read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("|"):
            block.append(line)
        elif block:
            found.append(_rows(block))
            block = []
    return found


def table(page: str, *columns: str) -> list[dict[str, str]]:
    """The rows of the tables of ``page`` that have all these columns."""
    rows = [row for rows in tables(page) if rows and set(columns) <= set(rows[0]) for row in rows]
    assert rows, f"docs/{page} has no table with the columns {columns}"
    return rows


def _rows(block: list[str]) -> list[dict[str, str]]:
    head, _, *lines = [_cells(line) for line in block]
    return [dict(zip([name.lower() for name in head], cells, strict=True)) for cells in lines]


def _cells(line: str) -> list[str]:
    return [_plain(cell.strip().replace("\\|", "|")) for cell in _CELL.split(line.strip().strip("|"))]


def _plain(cell: str) -> str:
    """A cell that is code as a whole, without its back quotes."""
    return cell[1:-1] if cell.count("`") == 2 and cell[0] == cell[-1] == "`" else cell
