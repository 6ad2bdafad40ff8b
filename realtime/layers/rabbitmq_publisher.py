"""The publishing half of the RabbitMQ layer: publications, and the broker's word that it took them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

from pamqp import commands

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.link import Link
from realtime.layers.linked_publisher import PUBLISH_SECONDS, LinkedPublisher, fail
from realtime.layers.rabbitmq_addresses import RabbitAddress
from realtime.layers.rabbitmq_connection import RabbitConnection, connect
from realtime.layers.rabbitmq_frames import Confirm, Content, Said, method_frame, publication, publish_header
from realtime.layers.rabbitmq_names import is_answered
from realtime.layers.stats import Stats

_NAME = "rt-publish"
_CHANNEL = 1
_PING = method_frame(_CHANNEL, commands.Channel.Flow(active=True))  # changes nothing, and is answered


def exchange_declaration(exchange: str) -> commands.Exchange.Declare:
    """Durable, so that other programs find it whether or not a node runs; no message on it is."""
    return commands.Exchange.Declare(exchange=exchange, exchange_type="topic", durable=True)


class RabbitPublisher(LinkedPublisher[RabbitConnection]):
    """A publication's number is its delivery tag on the channel, which begins anew with each connection.

    The broker confirms in any order. What it returns because nobody is bound was taken all the same, by 0 subscribers;
    it comes before its confirmation. While the broker is short of memory or disk it takes nothing, and says so.
    """

    def __init__(
        self,
        addresses: Sequence[RabbitAddress],
        exchange: str,
        stats: Stats,
        *,
        max_bytes: int,
        on_up: Callable[[], None],
    ) -> None:
        super().__init__(stats, max_bytes=max_bytes, on_up=on_up)
        self._addresses = addresses
        self._exchange = exchange
        self._returned: set[int] = set()
        self._shortage = ""  # of what, while the broker takes nothing
        where = ",".join(map(str, addresses))
        self.link = Link("RabbitMQ", where, _NAME, self._dial, self, stats)

    def header_for(self, name: bytes) -> bytes:
        return publish_header(_CHANNEL, self._exchange.encode(), name, is_answered=is_answered(name))

    def replies_arrived(self, replies: list[Any]) -> None:
        self.link.answered()
        for reply in replies:
            if type(reply) is Confirm:
                self._confirm(reply)
            elif type(reply) is Content:
                self._returned.add(int(reply.decoded_properties().message_id or 0))
            else:
                self._listen(reply)

    def send_ping(self) -> None:
        if self._shortage:
            self.link.answered()  # a broker that takes nothing does not read either; the other connection is asked
        elif self.link.connection is not None:
            self.link.connection.write(_PING)

    def went_down(self, error: BackplaneUnavailable) -> None:
        self._returned.clear()
        self._shortage = ""
        super().went_down(error)

    async def _dial(self) -> RabbitConnection:
        connection = await connect(self._addresses, _NAME)
        calls = [commands.Channel.Open(), exchange_declaration(self._exchange), commands.Confirm.Select()]
        try:
            await connection.ask([(_CHANNEL, call) for call in calls])
        except BaseException:
            connection.abort()
            raise
        return connection

    def _command(self, header: bytes, payload: bytes, number: int) -> bytes:
        return publication(header, _CHANNEL, payload, number)

    def _write_to(self, connection: RabbitConnection, data: bytes) -> None:
        connection.write(data)

    def _refusal(self) -> str:
        return f"takes nothing, as it is short: {self._shortage}" if self._shortage else ""

    def _confirm(self, confirm: Confirm) -> None:
        tags = [confirm.tag]
        if confirm.is_multiple:
            tags = list(takewhile(lambda tag: tag <= confirm.tag, self._pending))
        for tag in tags:
            if tag not in self._pending:
                self.link.drop(f"RabbitMQ confirmed what was not published: {tag}")
            elif not confirm.is_taken:
                self._refused(tag, "it could not take the message")
            elif tag in self._returned:
                self._returned.discard(tag)
                self._answered(tag, 0)
            else:
                self._answered(tag, None)

    def _listen(self, said: Said) -> None:
        if isinstance(said.method, commands.Connection.Blocked):
            self._shortage = said.method.reason or "no reason given"
            error = BackplaneUnavailable(f"RabbitMQ {self.link.address}: {self._refusal()}")
            for future, _, _ in self._pending.values():
                if future is not None:
                    fail(future, error)
            self._set_deadlines(math.inf)
        elif isinstance(said.method, commands.Connection.Unblocked):
            self._shortage = ""
            self._set_deadlines(self._loop.time() + PUBLISH_SECONDS)
