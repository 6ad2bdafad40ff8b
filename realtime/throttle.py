"""The throttle of a node: carries out what ``rates`` decides. It keeps the sources, counts, and says so in the log.

One object for the node; a connection has four numbers and two references in it. A delivery never comes by here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from realtime.conf import Settings
from realtime.hub import Member
from realtime.instrument import Instrument
from realtime.logs import LineLimit
from realtime.protocol.closing import POLICY_VIOLATION
from realtime.rates import CommandRates, Rate, Source, Sources, rounded_up, source_of

logger = logging.getLogger("realtime.throttle")

LOGGED_SECONDS = 1.0
"""Each limit says in the log once in that time that it was reached, and how often before; metrics count all."""
TOLD_MAX = 1_000
"""Users that one heartbeat tells of; the others wait for the next."""
CAPACITY_RETRY_SECONDS = 5.0
"""When a client that found no place may come back: nobody knows when one will be free."""

ADDRESS_RATE = "address_rate"
NODE_RATE = "node_rate"
ADDRESS_CONNECTIONS = "address_connections"
USER_CONNECTIONS = "user_connections"
RATE = "rate"


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """A client that is not let in: why, and when it may come back."""

    reason: str
    retry_after: float


class Throttle:
    """The rates of one node. All methods belong to its loop."""

    def __init__(self, node_id: str, settings: Settings, instrument: Instrument, clock: Callable[[], float]) -> None:
        self.commands = CommandRates(
            Rate(settings.commands_per_second, settings.commands_burst),
            Rate(settings.address_commands_per_second, settings.address_commands_burst),
            Rate(settings.user_commands_per_second, settings.user_commands_burst),
        )
        self.joins = Rate(settings.joins_per_second, settings.joins_burst)
        self.broadcasts = Rate(settings.broadcasts_per_second, settings.broadcasts_burst)
        self.refusals = Rate(settings.refusals_max / settings.refusals_seconds, settings.refusals_max)
        self.addresses = Sources(settings.rate_keys_max)
        self.users = Sources(settings.rate_keys_max)
        self._node_id = node_id
        self._instrument = instrument
        self._clock = clock
        self._address_connects = Rate(settings.address_connects_per_second, settings.address_connects_burst)
        self._node_connects = Rate(settings.node_connects_per_second, settings.node_connects_burst)
        self._node_full_at = 0.0
        self._address_connections_max = settings.address_connections_max
        self._user_connections_max = settings.user_connections_max
        self._lines: dict[str, LineLimit] = {}  # by limit, of which there are a dozen

    @property
    def remembered(self) -> dict[str, int]:
        """How many sources it keeps, by kind."""
        return {"address": len(self.addresses), "user": len(self.users)}

    # -- connects ----------------------------------------------------------------------------------------------------

    def knock(self, address: str) -> TurnedAway | None:
        """A handshake from this address, which costs one of its tokens and one of the node's. Why it is turned away.

        Who is turned away spends nothing: a client that obeys ``retry_after`` gets in.
        """
        now = self._clock()
        source = self._source(address)
        limits = ((ADDRESS_RATE, self._address_connects, source.connects_full_at),
                  (NODE_RATE, self._node_connects, self._node_full_at))  # fmt: skip
        for reason, rate, full_at in limits:
            if (wait := rate.wait(full_at, now)) > 0:
                return self._turned_away(reason, wait, address)
        source.connects_full_at = self._address_connects.take(source.connects_full_at, now)
        self._node_full_at = self._node_connects.take(self._node_full_at, now)
        return None

    def enter(self, address: str) -> Source | TurnedAway:
        """One more connection from this address: its source, to be given back with ``leave``; or why not."""
        most = self._address_connections_max
        if most and self._source(address).connections >= most:
            return self._turned_away(ADDRESS_CONNECTIONS, CAPACITY_RETRY_SECONDS, address)
        return self.addresses.hold(source_of(address)) if address else Source("")

    def leave(self, source: Source) -> None:
        """A connection from there is gone."""
        if source.key:
            self.addresses.release(source, self._clock())

    def open_account(self, member: Member, user: str) -> None:
        """A connection turns out to be this user's; ``close_account`` when it is gone."""
        member.account = self.users.hold(user)

    def close_account(self, member: Member) -> None:
        """A connection is gone; it may have been a user's."""
        account, member.account = member.account, None
        if account is not None:
            self.users.release(account, self._clock())

    def evict_if_over(self, member: Member) -> None:
        """Close a connection, if its user has more of them here than one may have."""
        account = member.account
        if account is not None and 0 < self._user_connections_max < account.connections:
            member.evict(POLICY_VIOLATION)
            self.closed(USER_CONNECTIONS, member.id)

    # -- what goes on ------------------------------------------------------------------------------------------------

    def tell(self) -> dict[str, int]:
        """What users have spent here that no other node knows; and let go of what need not be known any more."""
        now = self._clock()
        self.addresses.forget_full(now)
        self.users.forget_full(now)
        return self.commands.take_busy(TOLD_MAX)

    def heard(self, spent: Mapping[str, int]) -> None:
        """What users have spent on another node."""
        if spent:
            self.commands.spent_elsewhere(self.users, spent, self._clock())

    def limited(self, limit: str, who: str) -> None:
        """A command of the connection ``who`` was refused by this limit."""
        self._instrument.command_limited(limit)
        self._log(f"rate_of_{limit}", who)

    def closed(self, reason: str, who: str) -> None:
        """The connection ``who`` is closed for good, because it went on."""
        self._instrument.connection_evicted(POLICY_VIOLATION, reason)
        self._log(reason, who)

    def cut(self, reason: str) -> None:
        """A request was cut off by the server."""
        self._log(reason, "")

    def _turned_away(self, reason: str, wait: float, address: str) -> TurnedAway:
        self._log(reason, address)
        return TurnedAway(reason, rounded_up(wait))

    def _source(self, address: str) -> Source:
        """Without an address (a Unix socket, with no proxy that names one) nobody is limited by it."""
        return self.addresses.of(source_of(address)) if address else Source("")

    def _log(self, limit: str, who: str) -> None:
        lines = self._lines.setdefault(limit, LineLimit(most=1, seconds=LOGGED_SECONDS))
        unlogged = lines.admit(self._clock())
        if unlogged is not None:
            logger.warning(
                "limit_reached node=%s limit=%s by=%r unlogged_before=%d", self._node_id, limit, who, unlogged
            )
