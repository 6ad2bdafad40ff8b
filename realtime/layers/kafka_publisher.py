"""The publishing half: what is published in one turn of the loop leaves in one request to each broker.

While a request is under way, and for `linger_ms` after it left, what is published gathers for the next one; so an idle
node's message leaves at once, and a busy node's requests grow instead of becoming more. One request at a time to each
broker keeps the order.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka.partitioner import murmur2
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.kafka_cluster import NO_ERROR, Cluster, Layout, Partition
from realtime.layers.kafka_connection import BrokerConnection, BrokerRefused, close_all
from realtime.layers.kafka_link import KafkaLink
from realtime.layers.kafka_positions import by_topic
from realtime.layers.stats import Stats

PUBLISH_SECONDS = 1.9  # a publish fails within 2 s, whatever happens
GRACE_SECONDS = 0.1  # what a loop that stood still gets to read the answers that wait in its socket
LATE_SECONDS = 1.0
BATCH_BYTES = 512 * 1024  # of one partition in one request, unless a single message is larger
RECORD_BYTES = 32  # what a record costs beyond its key and value, at most
PARTITIONS = 20_000  # remembered: which key belongs to which partition
NO_LIMIT = 2**30  # of a record batch: what goes into it is bounded before
MAGIC = 2  # the format of records since Kafka 0.11

# Answers that say for certain that nothing was written: unknown topic, leader not available, not leader, too few
# in-sync replicas, storage error, fenced or unknown leader epoch.
NOT_WRITTEN = frozenset({3, 5, 6, 19, 56, 74, 75})

Entry = tuple[bytes, bytes, "asyncio.Future[int | None]", float]  # key, payload, answer, deadline


def partition_of(key: bytes, count: int) -> int:
    """The partition of a key, as the default partitioners of Java and kafkajs choose it."""
    hashed: int = murmur2(key)
    return (hashed & 0x7FFFFFFF) % count


def required_acks(acks: str) -> int:
    return -1 if acks == "all" else 1


class KafkaPublisher:
    """Invariant: `_pending_bytes` is the size of all payloads whose answer is not known yet."""

    def __init__(
        self,
        cluster: Cluster,
        link: KafkaLink,
        stats: Stats,
        *,
        topic_of: Callable[[bytes], str],
        acks: str,
        linger_ms: int,
        max_bytes: int,
        on_up: Callable[[], None],
    ) -> None:
        self.link = link
        self.max_bytes = max_bytes  # of payloads not yet answered; beyond it publishes are refused
        self._cluster = cluster
        self._stats = stats
        self._topic_of = topic_of
        self._acks = required_acks(acks)
        self._linger = linger_ms / 1000
        self._on_up = on_up
        self._loop = asyncio.get_running_loop()
        self._layout = Layout()
        self._connections: dict[int, tuple[tuple[str, int], BrokerConnection]] = {}
        self._unsent: list[Entry] = []  # not yet sorted by partition, in order
        self._queues: dict[Partition, deque[Entry]] = {}
        self._unknown: list[Entry] = []  # under way when their connection broke: taken or not, nobody knows
        self._partitions: dict[bytes, Partition] = {}
        self._senders: dict[int, asyncio.Task[None]] = {}  # by broker
        # What the brokers have not answered; what comes after it must wait, wherever its partition may have moved.
        self._under_way: dict[Partition, list[Entry]] = {}
        self._pending_bytes = 0
        self._deadline = 0.0  # of what is published in this turn
        self._is_flushing = False
        self._watch: asyncio.TimerHandle | None = None

    def header_for(self, name: bytes) -> bytes:
        """The key of a record is the name on the wire."""
        return name

    def publish(self, key: bytes, payload: bytes) -> asyncio.Future[int | None]:
        """See Backplane.publish for the promise."""
        future: asyncio.Future[int | None] = self._loop.create_future()
        self._stats.publishes += 1
        size = len(payload)
        if self.link.is_down:
            return fail(future, self.link.unavailable())
        if self._pending_bytes + size > self.max_bytes and self._pending_bytes:
            return fail(future, BackplaneUnavailable(f"{self._pending_bytes} bytes wait for Kafka already"))
        if not self._is_flushing:
            self._begin_turn()
        self._unsent.append((key, payload, future, self._deadline))
        self._pending_bytes += size
        return future

    async def close(self) -> None:
        await self.link.close()

    # Link's half

    async def came_up(self, layout: Layout) -> None:
        """Connect to the leaders that are new, lost, or elsewhere; what still works is left alone."""
        connections: dict[int, tuple[tuple[str, int], BrokerConnection]] = {}
        made: list[BrokerConnection] = []
        try:
            for broker in set(layout.leaders.values()):
                address = layout.brokers[broker]
                known = self._connections.get(broker)
                if known is None or known[0] != address or known[1].is_lost:
                    connection = await self._cluster.connect(address)
                    connection.on_lost = self.link.trouble
                    made.append(connection)
                    known = address, connection
                connections[broker] = known
        except BaseException:
            for connection in made:
                connection.abort()
            raise
        kept = {id(connection) for _, connection in connections.values()}
        stale = [connection for _, connection in self._connections.values() if id(connection) not in kept]
        self._use(connections, layout)
        await close_all(stale)

    def _use(self, connections: dict[int, tuple[tuple[str, int], BrokerConnection]], layout: Layout) -> None:
        """All at once: senders may be at work."""
        self._connections = connections
        if layout != self._layout:
            self._layout = layout
            self._partitions.clear()
            self._unsent[:0] = [entry for queue in self._queues.values() for entry in queue]
            self._queues.clear()

    def is_now_up(self) -> None:
        unknown, self._unknown = self._unknown, []
        self._fail(unknown, BackplaneUnavailable("the connection broke before the answer came"))
        self._flush()
        self._on_up()

    def went_down(self, error: BackplaneUnavailable) -> None:
        waiting = [*self._unknown, *(entry for queue in self._queues.values() for entry in queue), *self._unsent]
        self._unknown, self._unsent = [], []
        self._queues.clear()
        for _, connection in self._connections.values():
            connection.abort()
        self._fail(waiting, error)

    async def look(self) -> None:
        """Its connections tell by themselves when they are lost."""

    async def disconnect(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        senders = list(self._senders.values())
        for sender in senders:
            sender.cancel()
        if senders:
            await asyncio.wait(senders)
        connections, self._connections = [connection for _, connection in self._connections.values()], {}
        await close_all(connections)

    # Sending

    def _begin_turn(self) -> None:
        self._is_flushing = True
        self._deadline = self._loop.time() + PUBLISH_SECONDS
        self._loop.call_soon(self._flush)
        if self._watch is None:
            self._arm(self._deadline)
        self.link.start()

    def _flush(self) -> None:
        """Sort what is unsent into the queues of its partitions, and see that somebody sends them."""
        self._is_flushing = False
        if not self.link.is_up:
            return
        unsent, self._unsent = self._unsent, []
        for entry in unsent:
            partition = self._partitions.get(entry[0]) or self._remember(entry[0])
            self._queues.setdefault(partition, deque()).append(entry)
        for partition in self._queues:
            broker = self._layout.leaders[partition]
            if broker not in self._senders:
                self._senders[broker] = self._loop.create_task(self._send(broker), name=f"rt-kafka-publish-{broker}")

    def _remember(self, key: bytes) -> Partition:
        if len(self._partitions) >= PARTITIONS:
            self._partitions.clear()
        topic = self._topic_of(key)
        partition = self._partitions[key] = topic, partition_of(key, self._layout.in_use[topic])
        return partition

    async def _send(self, broker: int) -> None:
        """One request after the other to one broker, while something waits for it."""
        try:
            while self.link.is_up and (batches := self._take(broker)):
                began = self._loop.time()
                await self._send_once(broker, batches)
                if self._queues:
                    self._flush()  # of a partition that moved meanwhile, somebody else must send the rest
                await asyncio.sleep(max(0.0, began + self._linger - self._loop.time()))
        finally:
            del self._senders[broker]

    def _take(self, broker: int) -> dict[Partition, list[Entry]]:
        """What goes into the next request: of each partition the oldest entries, up to BATCH_BYTES."""
        batches: dict[Partition, list[Entry]] = {}
        for partition, queue in list(self._queues.items()):
            if self._layout.leaders[partition] != broker or partition in self._under_way:
                continue
            batch: list[Entry] = []
            size = 0
            while queue and (not batch or size + len(queue[0][0]) + len(queue[0][1]) + RECORD_BYTES <= BATCH_BYTES):
                entry = queue.popleft()
                size += len(entry[0]) + len(entry[1]) + RECORD_BYTES
                batch.append(entry)
            if not queue:
                del self._queues[partition]
            batches[partition] = batch
        return batches

    async def _send_once(self, broker: int, batches: dict[Partition, list[Entry]]) -> None:
        records = by_topic((partition, records_of(batch)) for partition, batch in batches.items())
        request = ProduceRequest(None, self._acks, int(PUBLISH_SECONDS * 1000), records)
        entries = [entry for batch in batches.values() for entry in batch]
        self._under_way.update(batches)
        try:
            answer = await self._connections[broker][1].ask(request, PUBLISH_SECONDS)
        except ConnectionError as error:
            self.link.trouble(error)
            if self.link.is_down:
                self._fail(entries, self.link.unavailable())
            else:
                self._unknown += entries  # until it is known whether the broker is gone, or only this connection
            return
        except asyncio.CancelledError:
            self._fail(entries, self.link.unavailable())
            raise
        finally:
            for partition in batches:
                del self._under_way[partition]
        for topic, partitions in answer.topics:
            for number, code, *_ in partitions:
                self._settle((topic, number), batches[topic, number], code)

    def _settle(self, partition: Partition, batch: list[Entry], code: int) -> None:
        if code in NOT_WRITTEN:
            self._unsent[:0] = [*batch, *self._queues.pop(partition, ())]
            self.link.trouble(BrokerRefused(f"publishing to {partition[0]} {partition[1]}: error {code}"))
        elif code != NO_ERROR:
            self._fail(batch, BackplaneUnavailable(f"Kafka refused {len(batch)} messages: error {code}"))
        else:
            for _, payload, future, _ in batch:
                self._pending_bytes -= len(payload)
                if not future.done():
                    future.set_result(None)

    # Ends

    def _arm(self, due: float) -> None:
        self._watch = self._loop.call_at(due, self._expire, due)

    def _expire(self, due: float) -> None:
        """Whoever has waited too long is told, whether it is under way or not."""
        self._watch = None
        now = self._loop.time()
        if now - due > LATE_SECONDS:  # our own loop stood still: answers may be in the socket, unread
            self._arm(now + GRACE_SECONDS)
            return
        for batch in self._under_way.values():
            for _, _, future, deadline in batch:
                if deadline <= now:
                    fail(future, self.link.unavailable())
        self._drop_until(now)
        oldest = self._oldest()
        if oldest is not None:
            self._arm(oldest)

    def _oldest(self) -> float | None:
        """The first deadline of those that have not been told anything."""
        waiting = [*self._under_way.values(), self._unknown, *self._queues.values(), self._unsent]
        return min((entry[3] for each in waiting for entry in each if not entry[2].done()), default=None)

    def _drop_until(self, now: float) -> None:
        """Take out what is not under way and has waited until now."""
        waiting: list[Iterable[Entry]] = [self._unknown, *self._queues.values(), self._unsent]
        late = [entry for each in waiting for entry in each if entry[3] <= now]
        self._unknown = [entry for entry in self._unknown if entry[3] > now]
        self._unsent = [entry for entry in self._unsent if entry[3] > now]
        for partition, queue in list(self._queues.items()):
            self._queues[partition] = deque(entry for entry in queue if entry[3] > now)
            if not self._queues[partition]:
                del self._queues[partition]
        self._fail(late, self.link.unavailable())

    def _fail(self, entries: Iterable[Entry], error: BackplaneUnavailable) -> None:
        for _, payload, future, _ in entries:
            self._pending_bytes -= len(payload)
            fail(future, error)


def records_of(batch: list[Entry]) -> bytes:
    """A record batch, not compressed: frames between nodes are small, and every node would have to undo it."""
    builder: Any = DefaultRecordBatchBuilder(MAGIC, 0, 0, -1, -1, -1, NO_LIMIT)
    now = int(time.time() * 1000)
    for number, (key, payload, _, _) in enumerate(batch):
        builder.append(number, now, key, payload, [])
    return bytes(builder.build())


def fail(future: asyncio.Future[int | None], error: BackplaneUnavailable) -> asyncio.Future[int | None]:
    """Fail it, and mark the error as seen: who does not look at the future does not want a traceback in the log."""
    if not future.done():
        future.set_exception(error)
        future.exception()
    return future
