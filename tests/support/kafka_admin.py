"""A program that is not ours, beside the nodes on Kafka: it changes topics, and publishes and reads by itself."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.partitioner import DefaultPartitioner


class KafkaAdmin:
    """aiokafka's own clients; an asynchronous context manager."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._client = AIOKafkaAdminClient(bootstrap_servers=address)

    async def __aenter__(self) -> KafkaAdmin:
        await self._client.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def add_partitions(self, topic: str, total: int) -> None:
        await self._client.create_partitions({topic: NewPartitions(total)})

    async def delete_records(self, topic: str) -> None:
        """Everything that is in the topic now."""
        async with self._consumer() as consumer:
            ends = await consumer.end_offsets(await self._partitions(topic))
        await self._client.delete_records(
            {partition: RecordsToDelete(before_offset=end) for partition, end in ends.items() if end}
        )

    async def publish(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, *, compression: str | None = None
    ) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.address, compression_type=compression, acks="all")
        await producer.start()
        try:
            async with asyncio.timeout(30):
                await producer.send_and_wait(topic, value, key=key, partition=partition)
        finally:
            await producer.stop()

    async def keys_by_partition(self, topic: str, count: int) -> dict[int, list[bytes]]:
        """The keys of the first `count` records of a topic."""
        found: dict[int, list[bytes]] = {}
        async with self._consumer() as consumer:
            partitions = await self._partitions(topic)
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            async with asyncio.timeout(30):
                for _ in range(count):
                    record = await consumer.getone()
                    found.setdefault(record.partition, []).append(record.key)
        return found

    def partition_of(self, key: str, count: int) -> int:
        numbers = list(range(count))
        chosen: int = DefaultPartitioner()(key.encode(), numbers, numbers)
        return chosen

    def _consumer(self) -> Any:
        return AIOKafkaConsumer(bootstrap_servers=self.address, enable_auto_commit=False, fetch_max_wait_ms=10)

    async def _partitions(self, topic: str) -> list[Any]:
        [found] = await self._client.describe_topics([topic])
        return [TopicPartition(topic, each["partition"]) for each in found["partitions"]]
