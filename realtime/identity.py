"""Who a client is: what its credential said. Plain values, without I/O."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LiveSession:
    """The Django session that a client came with.

    ``tag`` is a keyed hash of its key: what nodes tell each other, and what may be logged. ``key`` stays in this
    process, where the session is looked up by it; None when the session goes on under a key that nobody told this node.
    """

    tag: str
    key: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the credential says a client is. ``user`` is the primary key as text, None when anonymous.

    ``label`` is for people; ``expires_at``: Unix seconds, None when the credential does not end by itself. Without
    ``session`` the credential was a token.
    """

    user: str | None
    label: str = ""
    expires_at: float | None = None
    session: LiveSession | None = None


ANONYMOUS = Identity(user=None)
