"""Log lines for people and for machines, each with the id of the node.

Ours are an event and its fields, ``logger.info("node_died node=%s other=%s", …)``: the JSON line has them as values of
their own type, whatever the text says. Lines of libraries have a ``message``. Passwords in URLs are blotted out,
whoever wrote them.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

_EVENT = re.compile(r"[a-z][a-z0-9_]*(?: \w+=%[-\d.]*[sdrf])*")
_FIELD = re.compile(r" (\w+)=%")
_PASSWORD = re.compile(r"(?<=://)([^\s/:@\"']*):[^\s\"']*@")
NO_NODE = "-"

_node = NO_NODE


def speak_as(node_id: str) -> None:
    """From now on the lines of this process are those of this node."""
    global _node
    _node = node_id


def without_passwords(text: str) -> str:
    """The text with the passwords of its URLs blotted out."""
    return _PASSWORD.sub(r"\1:***@", text) if "://" in text else text


class TextFormatter(logging.Formatter):
    """Time, level, node, logger, message; one line, and a traceback below it if there is one."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname:<7} {node} {name} {message}", style="{")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.node = _node
        record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")  # one record, one line
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return without_passwords(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object in one line: ``at``, ``level``, ``node``, ``logger``, then ``event`` and its fields, or
    ``message``; ``exception`` has a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "node": _node,
            "logger": record.name,
        }
        for name, value in _content(record).items():
            line.setdefault(name, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return without_passwords(json.dumps(line, default=str))


class LineLimit:
    """Lets ``most`` lines of one kind through in each span of ``seconds``, and counts the others: what may come back
    thousands of times a second must not fill the log."""

    __slots__ = ("_begun", "_left_out", "_most", "_seconds", "_written")

    def __init__(self, most: int = 3, seconds: float = 2.0) -> None:
        self._most = most
        self._seconds = seconds
        self._begun = float("-inf")
        self._written = 0
        self._left_out = 0

    def admit(self, now: float) -> int | None:
        """None: leave this line out. Else write it; so many were left out since the last one."""
        if now - self._begun >= self._seconds:
            self._begun, self._written = now, 0
        if self._written >= self._most:
            self._left_out += 1
            return None
        self._written += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


def _content(record: logging.LogRecord) -> dict[str, Any]:
    if isinstance(record.msg, str) and _EVENT.fullmatch(record.msg):
        names = _FIELD.findall(record.msg)
        values = record.args if isinstance(record.args, tuple) else ()
        if len(names) == len(values):
            return {"event": record.msg.split(" ", 1)[0], **dict(zip(names, map(_plain, values), strict=True))}
    return {"message": record.getMessage()}


def _plain(value: object) -> object:
    """What JSON has a type for as it is, and anything else as text."""
    return value if value is None or isinstance(value, (bool, int, str)) else _number_or_text(value)


def _number_or_text(value: object) -> object:
    return round(value, 6) if isinstance(value, float) and abs(value) < float("inf") else str(value)
