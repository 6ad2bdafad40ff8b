"""A cluster of several Kafka brokers inside this process, whose brokers go down and up, and whose partitions move.

It is the mock cluster of librdkafka, from the wheel confluent-kafka, called through ctypes: real TCP, no JVM.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import TracebackType

from tests.support.servers import require

BROKERS = (1, 2, 3)
PRODUCER = 0

_POINTER, _INT, _TEXT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p
_FUNCTIONS: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "rd_kafka_conf_new": (_POINTER, ()),
    "rd_kafka_conf_set": (_INT, (_POINTER, _TEXT, _TEXT, _TEXT, ctypes.c_size_t)),
    "rd_kafka_new": (_POINTER, (_INT, _POINTER, _TEXT, ctypes.c_size_t)),
    "rd_kafka_destroy": (None, (_POINTER,)),
    "rd_kafka_mock_cluster_new": (_POINTER, (_POINTER, _INT)),
    "rd_kafka_mock_cluster_bootstraps": (_TEXT, (_POINTER,)),
    "rd_kafka_mock_cluster_destroy": (None, (_POINTER,)),
    "rd_kafka_mock_topic_create": (_INT, (_POINTER, _TEXT, _INT, _INT)),
    "rd_kafka_mock_partition_set_leader": (_INT, (_POINTER, _TEXT, _INT, _INT)),
    "rd_kafka_mock_broker_set_down": (_INT, (_POINTER, _INT)),
    "rd_kafka_mock_broker_set_up": (_INT, (_POINTER, _INT)),
}


class MockCluster:
    """Three brokers with these topics; a context manager."""

    def __init__(self, topics: Iterable[str], partitions: int) -> None:
        self._library = _library()
        error = ctypes.create_string_buffer(512)
        configuration = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(configuration, b"log_level", b"0", error, 512)
        self._client = self._library.rd_kafka_new(PRODUCER, configuration, error, 512)  # a cluster belongs to a client
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, len(BROKERS))
        for topic in topics:
            self._check(
                self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, len(BROKERS))
            )

    @property
    def url(self) -> str:
        brokers: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return f"kafka://{brokers.decode()}"

    def lead(self, broker: int, topic: str, partitions: Iterable[int]) -> None:
        """Move these partitions to a broker."""
        for number in partitions:
            self._check(self._library.rd_kafka_mock_partition_set_leader(self._cluster, topic.encode(), number, broker))

    def take_down(self, broker: int) -> None:
        self._check(self._library.rd_kafka_mock_broker_set_down(self._cluster, broker))

    def bring_up(self, broker: int) -> None:
        self._check(self._library.rd_kafka_mock_broker_set_up(self._cluster, broker))

    def __enter__(self) -> MockCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)

    def _check(self, code: int) -> None:
        if code:
            raise RuntimeError(f"librdkafka's mock cluster: error {code}")


@cache
def _library() -> ctypes.CDLL:
    import confluent_kafka  # loads the libraries that this one needs

    directory = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
    found = next((str(path) for path in directory.glob("librdkafka*")), None)
    library = ctypes.CDLL(require(found, "confluent-kafka brings no librdkafka here"))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
