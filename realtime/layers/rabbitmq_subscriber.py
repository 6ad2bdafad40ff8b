"""The receiving half of the RabbitMQ layer: a queue with its bindings, and the way from a key to the inboxes."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from pamqp import base, commands

from realtime.layers.link import Link
from realtime.layers.linked_subscriber import LinkedSubscriber
from realtime.layers.rabbitmq_addresses import RabbitAddress
from realtime.layers.rabbitmq_connection import Call, RabbitConnection, connect
from realtime.layers.rabbitmq_frames import Content, Said, acknowledgement, method_frame, method_frames
from realtime.layers.rabbitmq_publisher import exchange_declaration
from realtime.layers.stats import Stats
from realtime.layers.wire import UnreadablePayload

_NAME = "rt-subscribe"
# Bindings have a channel of their own: thousands of them must not hold up what is delivered meanwhile.
_DELIVERIES, _BINDINGS, _DEAD_LETTERS = 1, 2, 3
# Changes nothing, and is answered; not behind the bindings, which another node's end may hold up for seconds.
_PING = method_frame(_DELIVERIES, commands.Channel.Flow(active=True))

DEAD_LETTERS = {"x-max-length": 10_000, "x-max-length-bytes": 16 * 1024 * 1024}  # only counted, so few are kept
ACKNOWLEDGED_BYTES = 1024 * 1024  # of messages; after so many, or a quarter of the prefetch, they are acknowledged


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """What may wait in the broker for one node."""

    length: int  # messages; then the oldest goes to the dead letters
    size: int  # bytes
    prefetch: int  # messages under way to the node


class RabbitSubscriber(LinkedSubscriber[RabbitConnection]):
    """The queue is exclusive: it ends with the connection, and each connection makes a new one.

    What finds no room in it is dead-lettered into a second one, which the node reads as well, to count what was lost:
    `on_overflow` gets the number of messages by routing key.
    """

    confirm_seconds = 6.0  # the end of another node with 10,000 bindings holds up all binding for 1 to 3 s
    names_per_command = 500
    names_per_second = 250  # RabbitMQ binds 4,000 in a second, if it has nothing else to do

    def __init__(
        self,
        addresses: Sequence[RabbitAddress],
        exchange: str,
        stats: Stats,
        *,
        bounds: QueueBounds,
        unseal: Callable[[bytes], bytes] | None,
        is_full: Callable[[], bool],
        on_lost: Callable[[RabbitSubscriber], None],
        on_up: Callable[[RabbitSubscriber], None],
        on_unreadable: Callable[[int], None],
        on_overflow: Callable[[Counter[bytes]], None],
    ) -> None:
        super().__init__(stats, on_lost=on_lost, on_up=on_up)
        self.queue = ""  # its name on the present connection
        self._addresses = addresses
        self._exchange = exchange
        self._bounds = bounds
        self._unseal = unseal
        self._is_full = is_full
        self._on_unreadable = on_unreadable
        self._on_overflow = on_overflow
        self._delivered = 0  # tag of the last delivery
        self._unacknowledged = 0  # deliveries
        self._unacknowledged_bytes = 0
        where = ",".join(map(str, addresses))
        self.link = Link("RabbitMQ", where, _NAME, self._dial, self, stats)

    def pause(self) -> None:
        if self.link.connection is not None:
            self.link.connection.pause()

    def resume(self) -> None:
        if self.link.connection is not None and self.link.connection.is_paused:
            self._acknowledge()
            self.link.connection.resume()

    def send_ping(self) -> None:
        self._acknowledge()
        self._queue(_PING)

    async def came_up(self, connection: RabbitConnection) -> None:
        self._delivered = self._unacknowledged = self._unacknowledged_bytes = 0
        await super().came_up(connection)

    # What comes

    def replies_arrived(self, replies: list[Any]) -> None:
        """The hot path."""
        self.link.answered()
        routes = self.routes
        unseal = self._unseal
        received = 0
        others = []
        for reply in replies:
            if type(reply) is not Content or reply.channel == _DEAD_LETTERS:
                others.append(reply)
                continue
            received += 1
            self._delivered = reply.tag
            payload = reply.body
            self._unacknowledged_bytes += len(payload)
            inboxes = routes.get(reply.key, ())  # none: unsubscribed a moment ago
            if unseal is not None:
                try:
                    payload = unseal(payload)
                except UnreadablePayload:
                    self._on_unreadable(1)
                    continue
            for inbox in inboxes:
                inbox.put(payload)
        self._unacknowledged += received
        self.stats.received += received
        if others:
            self._read_others(others)
        self._hold_back(received)

    def _read_others(self, replies: list[Any]) -> None:
        """Confirmations, and what the queue had to drop."""
        overflow: Counter[bytes] = Counter()
        for reply in replies:
            if type(reply) is Content:
                overflow[_original_key(reply)] += 1
            else:
                self._confirm(reply)
        if overflow:
            self._on_overflow(overflow)

    def _hold_back(self, received: int) -> None:
        """Stop reading if a node has enough; else let the broker go on."""
        if received and self.link.is_up and self._is_full():  # not before: the confirmations must come through
            self.pause()
        elif self._unacknowledged * 4 >= self._bounds.prefetch or self._unacknowledged_bytes >= ACKNOWLEDGED_BYTES:
            self._acknowledge()

    def _acknowledge(self) -> None:
        if self._unacknowledged and self.link.connection is not None:
            self._unacknowledged = self._unacknowledged_bytes = 0
            self.link.connection.write(acknowledgement(_DELIVERIES, self._delivered))

    # Topology

    async def _dial(self) -> RabbitConnection:
        """A connection with a new queue, from which nothing can come yet as nothing is bound to it."""
        connection = await connect(self._addresses, _NAME)
        self.queue = f"{self._exchange}.{self._owner()}.{secrets.token_hex(4)}"
        try:
            await connection.ask(self._topology())
        except BaseException:
            connection.abort()
            raise
        return connection

    def _owner(self) -> str:
        """What people see in the queue's name: the node, by its routing key."""
        nodes = (key.decode() for key in self.routes if key.startswith(b"node."))
        return next(nodes, "consumers")

    def _topology(self) -> list[Call]:
        # The broker works on its channels independently: what depends on another method goes on the same one.
        bounds, dead = self._bounds, f"{self.queue}.dropped"
        limits = {"x-max-length": bounds.length, "x-max-length-bytes": bounds.size, "x-overflow": "drop-head"}
        to_the_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}

        def queue(name: str, arguments: dict[str, Any]) -> commands.Queue.Declare:
            return commands.Queue.Declare(queue=name, exclusive=True, auto_delete=True, arguments=arguments)

        return [
            *((channel, commands.Channel.Open()) for channel in (_DELIVERIES, _BINDINGS, _DEAD_LETTERS)),
            (_BINDINGS, exchange_declaration(self._exchange)),
            (_DEAD_LETTERS, queue(dead, DEAD_LETTERS)),
            (_DELIVERIES, queue(self.queue, {**limits, **to_the_dead})),
            (_DELIVERIES, commands.Basic.Qos(prefetch_count=bounds.prefetch)),
            (_DELIVERIES, commands.Basic.Consume(queue=self.queue, consumer_tag="node", exclusive=True)),
            (_DEAD_LETTERS, commands.Basic.Consume(queue=dead, consumer_tag="dropped", no_ack=True)),
        ]

    def _encode(self, names: Collection[bytes], *, wants: bool) -> tuple[bytes, int]:
        """Only the last of a command's bindings is answered: the broker makes them in their order."""
        keys = [name.decode() for name in names]
        methods: list[base.Frame] = []
        if not wants:
            methods += (
                commands.Queue.Unbind(queue=self.queue, exchange=self._exchange, routing_key=key) for key in keys
            )
            return method_frames(_BINDINGS, methods), len(keys)
        for number, key in enumerate(keys, 1):
            nowait = number < len(keys)
            methods.append(
                commands.Queue.Bind(queue=self.queue, exchange=self._exchange, routing_key=key, nowait=nowait)
            )
        return method_frames(_BINDINGS, methods), 1

    def _write_to(self, connection: RabbitConnection, data: bytes) -> None:
        connection.write(data)

    def _confirm(self, reply: Any) -> None:
        if isinstance(reply, Said) and reply.channel == _BINDINGS:
            super()._confirm(reply)


def _original_key(letter: Content) -> bytes:
    """The routing key that a dead letter was published with."""
    deaths = (letter.decoded_properties().headers or {}).get("x-death")
    try:
        return str(deaths[0]["routing-keys"][0]).encode()  # type: ignore[index, call-overload]
    except (TypeError, LookupError):
        return letter.key
