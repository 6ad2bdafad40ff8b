"""Names of channels and groups as Channels allows them, checked to the last character."""

from __future__ import annotations

import re

MAX_LENGTH = 99
_CHANNEL = re.compile(r"[a-zA-Z0-9\-_.]+(![a-zA-Z0-9\-_.]*)?")
_GROUP = re.compile(r"[a-zA-Z0-9\-_.]+")
_RULE = f"at most {MAX_LENGTH} ASCII letters, digits, hyphens, underscores or periods"


def require_channel(name: object) -> None:
    """TypeError unless `name` is a channel name (the kind of error that Channels raises)."""
    if not isinstance(name, str) or len(name) > MAX_LENGTH or _CHANNEL.fullmatch(name) is None:
        raise TypeError(f"A channel name has {_RULE}, not {name!r:.120}")


def require_group(name: object) -> None:
    """TypeError unless `name` is a group name."""
    if not isinstance(name, str) or len(name) > MAX_LENGTH or _GROUP.fullmatch(name) is None:
        raise TypeError(f"A group name has {_RULE}, not {name!r:.120}")
