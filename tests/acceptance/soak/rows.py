"""Connection rows of a soak, and each change of whether they are live, written down by the database itself."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator

from tests.acceptance.crash.rows import DIED, Row, end_of
from tests.support.cluster import Cluster

TRIGGERS = """
CREATE TABLE soak_change (id TEXT NOT NULL, kind TEXT NOT NULL, before TEXT);
CREATE TRIGGER soak_born AFTER INSERT ON realtime_connection BEGIN
  INSERT INTO soak_change VALUES (NEW.id, 'opened', '');
  INSERT INTO soak_change SELECT NEW.id, 'closed', '' WHERE NEW.disconnected IS NOT NULL;
END;
CREATE TRIGGER soak_changed AFTER UPDATE OF disconnected ON realtime_connection BEGIN
  INSERT INTO soak_change SELECT NEW.id, 'closed', ''
    WHERE OLD.disconnected IS NULL AND NEW.disconnected IS NOT NULL;
  INSERT INTO soak_change SELECT NEW.id, 'reopened', OLD.close_reason
    WHERE OLD.disconnected IS NOT NULL AND NEW.disconnected IS NULL;
  INSERT INTO soak_change SELECT NEW.id, 'closed again', OLD.close_reason
    WHERE OLD.disconnected IS NOT NULL AND NEW.disconnected IS NOT NULL;
END;
"""


def watch_rows(cluster: Cluster) -> None:
    """From now on the database notes when a row is opened, closed and reopened. Before the first client."""
    with contextlib.closing(sqlite3.connect(cluster.database, timeout=10)) as database:
        database.executescript(TRIGGERS)


def assert_closed_once_per_life(cluster: Cluster, rows: dict[str, Row]) -> int:
    """Each row was opened once, and is closed exactly when it lives no more; only an end that was made up because the
    node was taken for dead is ever taken back, or followed by the true one. Returns how many were reopened."""
    with contextlib.closing(sqlite3.connect(f"file:{cluster.database}?mode=ro", uri=True, timeout=10)) as database:
        changes = database.execute("SELECT id, kind, before FROM soak_change ORDER BY rowid").fetchall()
    counts = Counter((key, kind) for key, kind, _ in changes)
    for key, row in rows.items():
        opened, closed, reopened = (counts[key, kind] for kind in ("opened", "closed", "reopened"))
        assert (opened, closed) == (1, reopened + (not row.is_live)), (key, row, _changes_of(key, changes))
    for key, kind, before in changes:
        is_again = kind in ("reopened", "closed again")
        assert not is_again or before == DIED[2], (key, _changes_of(key, changes))
    assert {key for key, *_ in changes} == rows.keys()
    return sum(kind == "reopened" for _, kind, _ in changes)


def _changes_of(key: str, changes: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
    return [(kind, before) for changed, kind, before in changes if changed == key]


def wrong_ends(rows: dict[str, Row], expected: dict[str, set[int]]) -> Iterator[str]:
    """Connections that have ended, and whose row has another close code than any of those expected."""
    for key, codes in expected.items():
        if key in rows and rows[key].close_code not in codes:
            yield f"{key}: {end_of(rows[key])} instead of {sorted(codes)}"
