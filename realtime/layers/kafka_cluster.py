"""What the cluster looks like: which brokers there are, which of them leads which partition. Makes missing topics."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiokafka.protocol.admin import CreateTopicsRequest
from aiokafka.protocol.metadata import MetadataRequest

from realtime.layers.kafka_address import Address, Options
from realtime.layers.kafka_connection import BrokerConnection, BrokerLost, BrokerRefused, BrokerSilent, connect

logger = logging.getLogger(__name__)

Partition = tuple[str, int]

ASK_SECONDS = 1.5  # for one answer about the cluster
CREATE_SECONDS = 5.0  # for new topics
ADOPT_SECONDS = 12.0  # publishers use new partitions so much later than readers look for them
MOST_COPIES = 3
MAX_MESSAGE_BYTES = 4 * 1024 * 1024  # a client's mebibyte, encrypted, with room to spare

NO_ERROR = 0
UNKNOWN_TOPIC = 3
TOPIC_EXISTS = 36


class NoLeader(ConnectionError):
    """A partition has no leader at this moment."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One answer of the cluster. Equal layouts need no change of anybody's connections."""

    brokers: dict[int, tuple[str, int]] = field(default_factory=dict)
    leaders: dict[Partition, int] = field(default_factory=dict)  # -1: none
    in_use: dict[str, int] = field(default_factory=dict)  # partitions of each topic that publishers may use

    def require_leaders(self) -> None:
        """NoLeader unless each partition has one whose address is known."""
        for (topic, number), leader in self.leaders.items():
            if leader not in self.brokers:
                raise NoLeader(f"partition {number} of {topic} has no leader")

    def by_leader(self) -> Iterator[tuple[int, list[Partition]]]:
        led: dict[int, list[Partition]] = {}
        for partition, leader in self.leaders.items():
            led.setdefault(leader, []).append(partition)
        return iter(led.items())


class Cluster:
    """Asks any broker that answers. Of a topic that has grown, readers see the new partitions at once."""

    def __init__(self, address: Address, options: Options) -> None:
        self.address = address
        self._options = options
        self._known: dict[int, tuple[str, int]] = {}
        self._connection: BrokerConnection | None = None
        self._in_use: dict[str, int] = {}
        self._grown_at: dict[str, float] = {}  # when a topic was first seen with more partitions than are in use

    async def look(self) -> Layout:
        """The layout as it is now, with all three topics; ConnectionError if no broker answers, or one refuses."""
        answer = await self._ask_any(MetadataRequest(list(self._options.topics), allow_auto_topic_creation=False))
        if missing := _missing(answer):
            await self._create(missing, len(answer.brokers))
            answer = await self._until_made(missing)
        return self._layout(answer)

    async def connect(self, broker: tuple[str, int]) -> BrokerConnection:
        return await connect(self.address, *broker)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def forget(self) -> None:
        """The connection is not to be trusted any more."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    async def _ask_any(self, request: Any) -> Any:
        """The connection that served last, else the first broker that answers."""
        if self._connection is not None and not self._connection.is_lost:
            try:
                return await self._connection.ask(request, ASK_SECONDS)
            except ConnectionError as error:
                logger.debug("kafka_broker_lost error=%r", str(error))
        trouble: list[ConnectionError] = []
        for broker in self._candidates():
            try:
                self._connection = await self.connect(broker)
                return await self._connection.ask(request, ASK_SECONDS)
            except (BrokerLost, BrokerSilent) as error:
                trouble.append(error)
        raise BrokerLost("; ".join(map(str, trouble)))

    def _candidates(self) -> Iterable[tuple[str, int]]:
        """Every address, the known brokers first, each part in an order of its own for each node."""
        known, given = list(self._known.values()), list(self.address.hosts)
        random.shuffle(known)
        random.shuffle(given)
        return dict.fromkeys([*known, *given])

    async def _create(self, topics: Collection[str], brokers: int) -> None:
        options = self._options
        copies = options.replication or min(MOST_COPIES, brokers)
        configs = [
            ("retention.ms", str(options.retention_seconds * 1000)),
            ("max.message.bytes", str(MAX_MESSAGE_BYTES)),
        ]
        wanted: list[Any] = [(topic, options.partitions, copies, [], configs) for topic in topics]
        request = CreateTopicsRequest(wanted, int(CREATE_SECONDS * 1000), False)
        if self._connection is None:
            raise BrokerLost("the connection is closed")
        answer = await self._connection.ask(request, CREATE_SECONDS + ASK_SECONDS)
        for topic, code, *why in answer.topic_errors:
            if code not in (NO_ERROR, TOPIC_EXISTS):
                raise BrokerRefused(f"topic {topic} cannot be made: error {code} {why[0] if why else ''}".rstrip())
            if code == NO_ERROR:
                logger.info("kafka_topic_made topic=%s partitions=%d copies=%d", topic, options.partitions, copies)

    async def _until_made(self, topics: Collection[str]) -> Any:
        """The next answer that knows the topics, and the leaders of their partitions."""
        request = MetadataRequest(list(self._options.topics), allow_auto_topic_creation=False)
        for _ in range(20):
            answer = await self._ask_any(request)
            if not _missing(answer) and all(leader >= 0 for _, leader in _leaders(answer)):
                return answer
            await asyncio.sleep(0.05)
        raise NoLeader(f"the new topics {', '.join(sorted(topics))} are not there yet")

    def _layout(self, answer: Any) -> Layout:
        for code, topic, *_ in answer.topics:
            if code not in (NO_ERROR, 5):  # 5: some partition has no leader
                raise BrokerRefused(f"topic {topic}: error {code}")
        self._known = {broker[0]: (broker[1], broker[2]) for broker in answer.brokers}
        leaders = dict(sorted(_leaders(answer)))
        for topic in self._options.topics:
            self._adopt(topic, sum(each == topic for each, _ in leaders))
        return Layout(self._known, leaders, dict(self._in_use))

    def _adopt(self, topic: str, count: int) -> None:
        """Publish to new partitions only when all nodes have had the time to read them."""
        now = asyncio.get_running_loop().time()
        if count <= self._in_use.get(topic, count):  # the first look, no change, or a topic that was made anew
            self._in_use[topic] = count
            self._grown_at.pop(topic, None)
        elif now - self._grown_at.setdefault(topic, now) >= ADOPT_SECONDS:
            self._in_use[topic] = count
            del self._grown_at[topic]


def _missing(answer: Any) -> list[str]:
    return [topic for code, topic, *_ in answer.topics if code == UNKNOWN_TOPIC]


def _leaders(answer: Any) -> list[tuple[Partition, int]]:
    return [
        ((topic, number), leader) for _, topic, _, partitions in answer.topics for _, number, leader, *_ in partitions
    ]
