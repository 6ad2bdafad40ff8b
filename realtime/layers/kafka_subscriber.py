"""The receiving half: every partition is read from its end on, by every node, without a consumer group.

What nobody here subscribes to is left out by its key, before the payload is looked at. So subscribing is a matter of
this process alone: once the positions are known, whatever is published later has a higher offset, and is read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any

from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.inbox import Inbox
from realtime.layers.kafka_cluster import NO_ERROR, Cluster, Layout, Partition
from realtime.layers.kafka_connection import BrokerConnection, BrokerRefused, close_all
from realtime.layers.kafka_link import KafkaLink
from realtime.layers.kafka_positions import EARLIEST, LATEST, by_topic, offsets, read_on_at
from realtime.layers.stats import Stats
from realtime.layers.wire import UnreadablePayload

logger = logging.getLogger(__name__)

CONFIRM_SECONDS = 1.9  # for one call of `subscribe`
ANSWER_SECONDS = 1.4  # what an answer may take beyond `fetch_max_wait_ms`
FETCH_BYTES = 4 * 1024 * 1024  # in one answer, unless a single message is larger
PARTITION_BYTES = 1024 * 1024


class KafkaSubscriber:
    """Invariants: `routes` is what we want; everything below a position in `_positions` is in the inboxes, or skipped.

    `on_lost` is called once for each loss of a subscription that was up, `on_up` when all partitions are read again
    (with the topics in which something was lost), `on_dropped` when so many messages were left out.
    """

    def __init__(
        self,
        cluster: Cluster,
        link: KafkaLink,
        stats: Stats,
        *,
        max_wait_ms: int,
        max_lag: int,
        unseal: Callable[[bytes], bytes] | None,
        is_full: Callable[[], bool],
        on_lost: Callable[[], None],
        on_up: Callable[[frozenset[str]], None],
        on_dropped: Callable[[int], None],
    ) -> None:
        self.link = link
        self.routes: dict[bytes, tuple[Inbox, ...]] = {}
        self._cluster = cluster
        self._stats = stats
        self._max_wait_ms = max_wait_ms
        self._max_lag = max_lag
        self._unseal = unseal
        self._is_full = is_full
        self._on_lost = on_lost
        self._on_up = on_up
        self._on_dropped = on_dropped
        self._is_wanted = False  # somebody has subscribed; a process that only publishes reads nothing
        self._positions: dict[Partition, int] = {}
        self._behind: dict[Partition, int] = {}  # how many messages of a partition we had not read when last told
        self._read: set[str] = set()  # topics whose positions are all known
        self._gaps: set[str] = set()  # topics in which something was lost since `on_up`
        self._fetchers: dict[BrokerConnection, asyncio.Task[None]] = {}
        self._partitions: dict[BrokerConnection, list[Partition]] = {}
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._was_up = False

    # For the layer

    async def subscribe(self, names: Collection[bytes], inbox: Inbox) -> None:
        """Route `names` to `inbox`; returns when every partition has a position."""
        for name in names:
            inboxes = self.routes.get(name, ())
            if inbox not in inboxes:
                self.routes[name] = (*inboxes, inbox)
        if not self._is_wanted:
            self._is_wanted = True
            self.link.again()
        await self.link.wait_until_up(CONFIRM_SECONDS)

    def unsubscribe(self, names: Iterable[bytes], inbox: Inbox) -> None:
        """Nothing more reaches `inbox` through these names, from now on."""
        for name in names:
            inboxes = tuple(other for other in self.routes.get(name, ()) if other is not inbox)
            if inboxes:
                self.routes[name] = inboxes
            else:
                self.routes.pop(name, None)

    def pause(self) -> None:
        """Ask for no more; it waits at the broker, and the lag grows."""
        self._has_room.clear()

    def resume(self) -> None:
        self._has_room.set()

    async def close(self) -> None:
        self._was_up = self._is_wanted = False
        await self.link.close()
        self.routes.clear()
        self._positions.clear()
        self._read.clear()
        self._gaps.clear()
        self._behind.clear()

    # Link's half

    async def came_up(self, layout: Layout) -> None:
        """1. stop reading; 2. connect to the leaders; 3. find the positions; 4. read on."""
        if not self._is_wanted:
            return
        await self.disconnect()
        for broker, partitions in layout.by_leader():
            connection = await self._cluster.connect(layout.brokers[broker])
            self._partitions[connection] = partitions
            await self._find_positions(connection, partitions)
        gone = set(self._positions) - set(layout.leaders)
        for partition in gone:
            del self._positions[partition]
            self._gaps.add(partition[0])
        loop = asyncio.get_running_loop()
        for connection in self._partitions:
            self._fetchers[connection] = loop.create_task(
                self._fetch_for_ever(connection), name=f"rt-kafka-fetch@{connection.name}"
            )

    def is_now_up(self) -> None:
        if self._is_wanted:
            self._was_up = True
            self._read = {topic for topic, _ in self._positions}
            gaps, self._gaps = frozenset(self._gaps), set()
            self._on_up(gaps)

    def went_down(self, error: BackplaneUnavailable) -> None:
        for connection, fetcher in self._fetchers.items():
            fetcher.cancel()
            connection.abort()
        if self._was_up:
            self._was_up = False
            self._on_lost()

    async def look(self) -> None:
        """Measure the lag, also while nothing is read."""
        for connection, partitions in list(self._partitions.items()):
            latest = await offsets(connection, partitions, LATEST)
            for partition, offset in latest.items():
                self._behind[partition] = max(0, offset - self._positions.get(partition, offset))
        self._stats.lag = sum(self._behind.values())

    async def disconnect(self) -> None:
        fetchers, self._fetchers = list(self._fetchers.values()), {}
        connections, self._partitions = list(self._partitions), {}
        for fetcher in fetchers:
            fetcher.cancel()
        if fetchers:
            await asyncio.wait(fetchers)
        await close_all(connections)

    # Reading

    async def _find_positions(self, connection: BrokerConnection, partitions: list[Partition]) -> None:
        latest = await offsets(connection, partitions, LATEST)
        earliest = await offsets(connection, partitions, EARLIEST)
        for partition in partitions:
            position = self._positions.get(partition)
            is_new = partition[0] in self._read
            read_on, lost = read_on_at(
                position, earliest[partition], latest[partition], is_new=is_new, max_lag=self._max_lag
            )
            self._positions[partition] = read_on
            if lost:
                logger.warning("kafka_skipped partition=%s from=%s to=%d", partition, position, read_on)
                self._gaps.add(partition[0])

    async def _fetch_for_ever(self, connection: BrokerConnection) -> None:
        """One request after the other, each for everything beyond the positions. Trouble ends it."""
        seconds = self._max_wait_ms / 1000 + ANSWER_SECONDS
        partitions = self._partitions[connection]
        try:
            while True:
                await self._has_room.wait()
                wanted = by_topic((each, self._positions[each], PARTITION_BYTES) for each in partitions)
                request = FetchRequest(self._max_wait_ms, 1, FETCH_BYTES, 0, wanted)
                answer = await connection.ask(request, seconds)
                self._take(answer.topics)
        except ConnectionError as error:
            self.link.trouble(error)
        except Exception as error:  # whatever it is, it must be said, and begun again
            logger.exception("kafka_fetch_failed broker=%s", connection.name)
            self.link.trouble(BrokerRefused(str(error)))

    def _take(self, topics: Any) -> None:
        received = 0
        for topic, partitions in topics:
            for number, code, high, *_, records in partitions:
                if code != NO_ERROR:
                    raise BrokerRefused(f"reading {topic} {number}: error {code}")
                partition = topic, number
                if records:
                    received += self._put(partition, records)
                self._judge_lag(partition, high - self._positions[partition])
        self._stats.lag = sum(self._behind.values())
        self._stats.received += received
        if self._is_full():
            self.pause()

    def _judge_lag(self, partition: Partition, behind: int) -> None:
        if behind > self._max_lag:
            logger.warning("kafka_skipped partition=%s count=%d", partition, behind)
            self._positions[partition] += behind
            self._on_dropped(behind)
            behind = 0
        self._behind[partition] = behind

    def _put(self, partition: Partition, records: bytes) -> int:
        """The hot path. A record that nobody here wants costs a tenth of a microsecond."""
        received = 0
        routes, position = self.routes, self._positions[partition]
        batches = MemoryRecords(records)
        while (batch := batches.next_batch()) is not None:
            following = batch.next_offset
            if not batch.is_control_batch:
                try:
                    for record in batch:
                        if record.offset < position:
                            continue  # the broker hands out whole batches
                        inboxes = routes.get(record.key)
                        if inboxes is not None:
                            received += 1
                            self._deliver(record, inboxes)
                except Exception as error:  # of a kind of compression that is not installed, say
                    self._unreadable_batch(partition, following - max(position, batch.base_offset), error)
            position = max(position, following)
        self._positions[partition] = position
        return received

    def _deliver(self, record: Any, inboxes: tuple[Inbox, ...]) -> None:
        payload = record.value
        if payload is None:
            self._on_dropped(1)
            return
        if self._unseal is not None:
            try:
                payload = self._unseal(payload)
            except UnreadablePayload:
                self._on_dropped(1)
                return
        for inbox in inboxes:
            inbox.put(payload)

    def _unreadable_batch(self, partition: Partition, count: int, error: Exception) -> None:
        logger.warning("kafka_unreadable partition=%s count=%d error=%r", partition, count, error)
        self._on_dropped(count)
