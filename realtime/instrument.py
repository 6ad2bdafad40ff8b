"""What the core tells operators, as facts in the past tense; ``monitoring`` turns them into metrics.

The default implementation records nothing. Methods are synchronous, cheap and never raise; on the path of a delivery
there is one call per batch, never one per member. The idea of instrumentation as hooks is stamina's.
"""

from __future__ import annotations

from realtime.protocol.closing import CloseCode
from realtime.statistics import Totals

MEMORY = "memory"
"""The reason of an eviction because memory was short; its close code is that of the evictions at capacity."""


NOT_AUTHENTICATED = "not_authenticated"
TOKEN_EXPIRED = "token_expired"
SESSION_ENDED = "session_ended"
USER_INACTIVE = "user_inactive"
LOGGED_OUT = "logged_out"
PASSWORD_CHANGED = "password_changed"
SESSION_DELETED = "session_deleted"
USER_DELETED = "user_deleted"
UNAUTHORIZED_CAUSES = (
    NOT_AUTHENTICATED,
    TOKEN_EXPIRED,
    SESSION_ENDED,
    USER_INACTIVE,
    LOGGED_OUT,
    PASSWORD_CHANGED,
    SESSION_DELETED,
    USER_DELETED,
)
"""The reasons of an eviction with 4001: why the client is nobody, or no longer who it was."""


class Instrument:
    """Records nothing; override what you need."""

    def connection_opened(self, transport: str) -> None:
        """A client was accepted."""

    def connection_closed(self, transport: str, code: int, seconds: float) -> None:
        """A connection ended after ``seconds``, with the close code that ended it (1006: without a close frame)."""

    def connection_refused(self, reason: str) -> None:
        """A client was not accepted: "origin", "path", "draining", "not_started", "capacity", "forbidden", …."""

    def operator_page_refused(self, page: str) -> None:
        """Somebody without the right to it asked for "metrics", "health" or "feed" (of the admin)."""

    def connection_evicted(self, close: CloseCode, reason: str = "") -> None:
        """The server decided to end a connection; ``reason``: why, where the name of the close code does not say it."""

    def authentication_refused(self, reason: str) -> None:
        """A token was not taken: "expired", "signature", …, "user" (not an active one), "other_user"."""

    def session_check_failed(self) -> None:
        """Sessions and users behind connections could not be looked up."""

    def revocation_failed(self) -> None:
        """Nodes could not be told that a session, or a user, is no longer good."""

    def command_handled(self, seconds: float, size: int) -> None:
        """A command of ``size`` bytes was handled, ``seconds`` from its arrival to the end of its handling."""

    def client_held_back(self) -> None:
        """A client was not read for a while, because too many of its messages waited to be handled."""

    def command_refused(self, code: str) -> None:
        """A command was answered with this error code."""

    def command_limited(self, limit: str) -> None:
        """A command was over a rate: of its "connection", "address" or "user", of "joins" or "broadcasts"."""

    def request_cut(self, reason: str) -> None:
        """A request of HTTP was not waited for, or not read: "late_head", "late_body", "large_head", "large_body"."""

    def batch_received(self, count: int) -> None:
        """That many envelopes came from the backplane in one read."""

    def batch_delivered(self, publications: int, deliveries: int, size: int, lag_seconds: float | None) -> None:
        """``publications`` went to some members as ``deliveries`` messages of ``size`` bytes in all.

        ``lag_seconds``: since one of them was published, if one of them says when; by the clocks of both nodes.
        """

    def messages_sent(self, count: int, size: int) -> None:
        """Replies and pushes other than publications were handed to a socket."""

    def publication_published(self) -> None:
        """An envelope was handed to the backplane."""

    def publish_failed(self) -> None:
        """The backplane is not known to have taken an envelope."""

    def envelope_unreadable(self) -> None:
        """An envelope of an unknown version or shape arrived and was skipped."""

    def backplane_dropped(self, count: int) -> None:
        """The channel layer dropped that many messages."""

    def echo_heard(self, seconds: float) -> None:
        """The node heard itself, ``seconds`` after it had spoken."""

    def backplane_interrupted(self) -> None:
        """The node's subscription was interrupted, or its echo stayed away."""

    def backplane_restored(self, seconds: float) -> None:
        """The node hears its own echo again, after ``seconds``."""

    def missed_told(self, connections: int) -> None:
        """That many connections were told that they may have missed something."""

    def request_carried(self, kind: str) -> None:
        """A request of a Socket.IO client was carried to the node of its session: "poll", "post" or "websocket"."""

    def stream_overflown(self) -> None:
        """A carried request was ended because too much of it waited."""

    def session_opened(self, transport: str) -> None:
        """A Socket.IO session began over "polling" or "websocket", or changed to one ("upgrade")."""

    def node_died(self) -> None:
        """Another node stayed silent for too long."""

    def tracking_rows_lost(self, count: int) -> None:
        """Rows could not be written within their bound."""

    def signals_dropped(self, count: int) -> None:
        """So many Django signals found no room, because their receivers are too slow."""

    def signal_receivers_failed(self, count: int) -> None:
        """So many receivers of a Django signal raised."""

    def handler_failed(self) -> None:
        """A handler raised something that is no refusal."""

    def loop_woke_late(self, seconds: float) -> None:
        """The loop did something that much after its time; measured ten times a second."""

    def totals(self) -> Totals:
        """What was counted so far, for the heartbeat: the one question among the facts."""
        return Totals()
