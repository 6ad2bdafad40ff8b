"""One connection to one Kafka broker: ask, and be answered in time. aiokafka speaks the protocol."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaError

from realtime.layers.kafka_address import Address

CONNECT_SECONDS = 2.0  # until the broker has answered which versions it speaks, and has taken our password
CLOSE_SECONDS = 0.5
LATE_SECONDS = 1.0  # a timer that is later than this says that our own loop stood still, not the broker
GRACE_SECONDS = 0.1  # what such a loop gets to read the answer that waits in its socket
CLIENT_ID = "realtime"


class BrokerLost(ConnectionError):
    """The connection to a broker broke, or could not be made."""


class BrokerSilent(ConnectionError):
    """A broker did not answer in time."""


class BrokerRefused(ConnectionError):
    """A broker answered with an error."""


class BrokerConnection:
    """`on_lost` is called when it breaks by itself; not after `abort`."""

    def __init__(self, connection: Any, name: str) -> None:
        self.name = name  # host:port
        self.on_lost: Callable[[Exception], None] | None = None
        self._connection = connection
        self._closed: asyncio.Future[None] | None = None

    @property
    def is_lost(self) -> bool:
        return self._closed is not None or not self._connection.connected()

    async def ask(self, request: Any, seconds: float) -> Any:
        """The broker's answer. Answers come in the order of the questions. A broker that does not answer in time is
        given up: nothing else would come in order."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        if self._closed is not None:
            raise BrokerLost(f"{self.name}: closed")
        try:
            answer = asyncio.ensure_future(self._connection.send(request))
        except (KafkaError, NotImplementedError) as error:
            raise BrokerLost(f"{self.name}: {error}") from error
        try:
            await asyncio.wait([answer], timeout=seconds)
            if not answer.done() and loop.time() - due > LATE_SECONDS:
                await asyncio.wait([answer], timeout=GRACE_SECONDS)
        finally:
            if not answer.done():
                answer.cancel()
                self.abort()
        if answer.cancelled() or not answer.done():
            raise BrokerSilent(f"{self.name}: no answer within {seconds:.3g} s")
        try:
            return answer.result()
        except (KafkaError, OSError, EOFError, ValueError) as error:
            self.abort()
            raise BrokerLost(f"{self.name}: {error}") from error

    def abort(self) -> None:
        """Give it up now."""
        self.on_lost = None
        if self._closed is None:
            self._closed = self._connection.close() or _done()

    async def close(self) -> None:
        """Give it up, and wait until its socket is closed."""
        self.abort()
        if self._closed is not None:
            await asyncio.wait([self._closed], timeout=CLOSE_SECONDS)

    def broke(self, reason: Any) -> None:
        """aiokafka found the connection broken."""
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost(BrokerLost(f"{self.name}: {getattr(reason, 'name', 'closed')}"))


async def connect(address: Address, host: str, port: int) -> BrokerConnection:
    """A connection whose broker has said which versions it speaks."""
    tls, sasl = address.tls is not None, bool(address.username)
    raw = AIOKafkaConnection(
        host,
        port,
        client_id=CLIENT_ID,
        request_timeout_ms=3_600_000,  # `ask` has its own, shorter ones
        ssl_context=address.tls,
        security_protocol=("SASL_SSL" if tls else "SASL_PLAINTEXT") if sasl else ("SSL" if tls else "PLAINTEXT"),
        sasl_mechanism=address.mechanism if sasl else None,
        sasl_plain_username=address.username or None,
        sasl_plain_password=address.password or None,
        on_close=lambda _, reason: connection.broke(reason),
    )
    connection: BrokerConnection = BrokerConnection(raw, f"{host}:{port}")
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await raw.connect()
    except TimeoutError as error:
        await connection.close()
        raise BrokerSilent(f"{host}:{port}: no answer within {CONNECT_SECONDS:g} s") from error
    except (KafkaError, OSError, EOFError, AssertionError) as error:
        await connection.close()
        raise BrokerLost(f"{host}:{port}: {error or type(error).__name__}") from error
    except BaseException:
        connection.abort()
        raise
    return connection


async def close_all(connections: list[BrokerConnection]) -> None:
    """Close them side by side."""
    with contextlib.suppress(OSError):
        await asyncio.gather(*(connection.close() for connection in connections))


def _done() -> asyncio.Future[None]:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done
