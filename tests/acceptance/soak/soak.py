"""Runs a program against three nodes, and looks at everything between its rounds.

The first node is only ever disturbed by Redis, the second also freezes, and the third is the one that dies.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from websockets.exceptions import WebSocketException

from tests.acceptance.crash.rows import connection_rows, node_states
from tests.acceptance.nodes import eventually
from tests.acceptance.soak.client import PasserBy, Talker
from tests.acceptance.soak.ledger import Ledger
from tests.acceptance.soak.program import CROWD, Act, Disturbance, Round, Step
from tests.acceptance.soak.rows import wrong_ends
from tests.acceptance.soak.vitals import Held, figures, held
from tests.support.cluster import Cluster, DaphneNode, run_manage
from tests.support.servers import RedisServer

LEAST, MOST = 20, 60  # clients that talk, at any moment
OUTAGE_SECONDS = 1.5
SETTLE_SECONDS = 40.0  # for what takes five, on a busy machine
FLOOD_BYTES = 8_192
NARROW = "read by half"  # the room of those that do not read
UNEXPECTED = {1006, 1012, 4008}  # how a client ends that did not want to


ClientT = TypeVar("ClientT", Talker, PasserBy)


class Soak:
    """The clients, and what is known of them."""

    def __init__(self, cluster: Cluster, redis: RedisServer, rng: random.Random) -> None:
        self.cluster = cluster
        self.redis = redis
        self.rng = rng
        self.ledger = Ledger()
        self.talkers: list[Talker] = []
        self.half_readers: list[PasserBy] = []
        self.welcomed: set[str] = set()
        self.broken_off = 0  # connections that failed before their welcome; they may have a row
        self.written: dict[str, set[str]] = {}  # by id of a killed node: the ids that had a row before
        self.ends: dict[str, set[int]] = {}  # by id: the close codes that its row may have
        self.told = 0  # notices that something may be missing
        self.happened: list[Disturbance] = []
        self.looks: list[list[Held]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_interrupted = False
        self._interruptions: dict[int, float] = {}  # by process id, at the last look

    # A round

    async def run(self, round_: Round) -> None:
        """All its steps at their time, the disturbance beside them; returns when everything is whole again."""
        began = time.monotonic()
        before = [talker for talker in self.talkers if talker.is_open]
        disturbing = asyncio.create_task(self._disturb(round_))
        for step in round_.steps:
            await asyncio.sleep(began + step.at - time.monotonic())
            await self._take(step)
        await disturbing
        self.happened.append(round_.disturbance)
        await self._look(before, round_.disturbance)

    async def _take(self, step: Step) -> None:
        node = self.cluster.nodes[step.node]
        talkers = [talker for talker in self.talkers if talker.is_open]
        match step.act:
            case Act.CONNECT if len(talkers) < MOST:
                self._start(self._arrive(node, step.room))
            case Act.CROWD:
                for _ in range(CROWD):
                    self._start(self._pass_by(node, step.room))
            case Act.HALF_READ:
                self._start(self._read_half(node, step.count))
            case Act.FLOOD:
                for reader in self.half_readers[-1:]:
                    for _ in range(40 * step.count):
                        reader.say(type="room", room=NARROW, data="x" * FLOOD_BYTES)
            case _ if talkers:
                await self._use(step, talkers)

    async def _use(self, step: Step, talkers: list[Talker]) -> None:
        client = talkers[int(step.pick * len(talkers))]
        match step.act:
            case Act.CLOSE if len(talkers) > LEAST:
                self._gone(client, 1000)
                self._start(client.close())
            case Act.ABORT if len(talkers) > LEAST:
                self._gone(client, 1006)
                client.abort()
            case Act.DISCONNECT if len(talkers) > LEAST:
                client.is_unwanted = True
                self._start(self._disconnect(client))
            case Act.JOIN:
                await client.join(step.room)
            case Act.LEAVE:
                await client.leave(step.other)
            case Act.TALK:
                await client.talk(step.other, step.count)
            case Act.BROADCAST:
                await client.broadcast()
            case Act.WHISPER:
                recipient = talkers[int(step.other * len(talkers))]
                if recipient is not client:
                    await client.whisper(recipient.id)

    # Clients

    def _start(self, coming: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coming, name="soak")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _arrive(self, node: DaphneNode, room: str) -> None:
        client = await self._connected(Talker.connect(node.url, self.ledger))
        if client is not None:
            self.talkers.append(client)
            await client.join(room)

    async def _pass_by(self, node: DaphneNode, room: str) -> None:
        client = await self._connected(PasserBy.connect(node.port, room, f"{room} too"))
        if client is not None:
            await asyncio.sleep(self.rng.uniform(0, 0.5))
            await self._leave(client)

    async def _read_half(self, node: DaphneNode, count: int) -> None:
        client = await self._connected(PasserBy.connect(node.port, NARROW, receive_buffer=4096))
        if client is not None:
            self.half_readers.append(client)
            await client.read_for(count)
            await asyncio.sleep(self.rng.uniform(0.5, 4))
            self.half_readers.remove(client)
            await self._leave(client)

    async def _connected(self, connecting: Awaitable[ClientT]) -> ClientT | None:
        """The client, or None when its node is not there or went away meanwhile."""
        try:
            client = await connecting
        except (OSError, EOFError, TimeoutError, WebSocketException):
            self.broken_off += 1
            return None
        self.welcomed.add(client.id)
        return client

    async def _disconnect(self, client: Talker) -> None:
        """It may come late, or never, when the client's node or Redis is not there."""
        done = await asyncio.to_thread(run_manage, self.cluster.environment, "disconnect", client.id)
        if "1 disconnected" in done.stdout:
            async with asyncio.timeout(SETTLE_SECONDS):
                await asyncio.wait([client.reader])

    async def _leave(self, client: PasserBy) -> None:
        await client.leave(self.rng)
        self.ends[client.id] = client.ways_out | UNEXPECTED

    def _gone(self, client: Talker, code: int) -> None:
        """It is about to go. What it missed in an outage it may not have been told yet."""
        if not self._is_interrupted:
            client.judge(is_over=True)
        self.ends[client.id] = {code} | self._other_ends(client)

    def _other_ends(self, client: Talker) -> set[int]:
        """How it may end that does not go by itself."""
        is_mortal = self._is_on(self.cluster.nodes[-1], client.node)
        return (UNEXPECTED if is_mortal else set()) | ({1008} if client.is_unwanted else set())

    # Disturbances

    async def _disturb(self, round_: Round) -> None:
        await asyncio.sleep(round_.disturbed_at)
        _, sleeper, mortal = self.cluster.nodes
        match round_.disturbance:
            case Disturbance.OUTAGE:
                await self._without_redis(self.redis.kill, self.redis.start)
            case Disturbance.STANDSTILL:
                await self._without_redis(self.redis.pause, self.redis.resume)
            case Disturbance.FREEZE:
                await self._frozen(sleeper)
            case Disturbance.KILL:
                await asyncio.to_thread(self._kill, mortal)
                await asyncio.to_thread(mortal.start)
            case Disturbance.RESTART:
                assert await asyncio.to_thread(mortal.stop, SETTLE_SECONDS) == 0
                await asyncio.to_thread(mortal.start)

    async def _frozen(self, node: DaphneNode) -> None:
        """Until the others have taken it for dead."""
        node_id = self._id_of(node)
        node.pause()
        try:
            await eventually(lambda: node_states(self.cluster)[node_id] == "dead", "it is dead", SETTLE_SECONDS)
        finally:
            node.resume()

    def _kill(self, node: DaphneNode) -> None:
        self.written[self._id_of(node)] = set(connection_rows(self.cluster))
        node.kill()

    def _id_of(self, node: DaphneNode) -> str:
        lives = [key for key, state in node_states(self.cluster).items() if state not in ("stopped", "dead")]
        (node_id,) = (key for key in lives if self._is_on(node, key))
        return node_id

    async def _without_redis(self, end: Callable[[], None], begin: Callable[[], object]) -> None:
        self._is_interrupted = True
        await asyncio.to_thread(end)
        await asyncio.sleep(OUTAGE_SECONDS)
        await asyncio.to_thread(begin)
        await self._all_ready()
        self._is_interrupted = False

    async def _all_ready(self) -> None:
        await eventually(lambda: all(node.is_ready for node in self.cluster.nodes), "all are ready", SETTLE_SECONDS)

    # Looks

    async def finish(self) -> None:
        """All clients leave, in both ways; then there is nobody, and the nodes end."""
        leaving = [talker for talker in self.talkers if talker.is_open]
        for number, client in enumerate(leaving):
            self._gone(client, 1006 if number % 2 else 1000)
            if number % 2:
                client.abort()
            else:
                self._start(client.close())
        await self._look([], None)
        assert self.talkers == []
        for node in self.cluster.nodes:
            node.terminate()
        for node in self.cluster.nodes:
            assert await asyncio.to_thread(node.wait, SETTLE_SECONDS) == 0
        states = node_states(self.cluster)
        assert {key: state for key, state in states.items() if state != "stopped"} == dict.fromkeys(
            self.written, "dead"
        )

    async def _look(self, before: list[Talker], disturbance: Disturbance | None) -> None:
        """At a moment of rest: everybody has everything, nodes and rows agree with the clients, and it is noted what
        the nodes hold."""
        async with asyncio.timeout(SETTLE_SECONDS):
            while self._tasks:
                await asyncio.wait(self._tasks)
        await self._all_ready()
        self._bury(is_interrupted=disturbance in (Disturbance.OUTAGE, Disturbance.STANDSTILL))
        await self._until_complete()
        await self._until_right()
        self._judge(before if disturbance is Disturbance.OUTAGE else [])
        self.looks.append([await self._held(node) for node in self.cluster.nodes])
        self.ledger.forget({talker.id for talker in self.talkers})
        for talker in self.talkers:
            talker.missed = 0
            for stay in talker.stays.values():
                stay.begin()

    def _bury(self, *, is_interrupted: bool) -> None:
        """Take out who has gone. Nobody may have gone without wanting to, but for clients of the mortal node and those
        that an operator ended."""
        for talker in [talker for talker in self.talkers if not talker.is_open]:
            self.talkers.remove(talker)
            talker.raise_wrong()
            if not talker.is_leaving:
                assert talker.close_code in self._other_ends(talker), (talker.id, talker.close_code)
                self.ends[talker.id] = self._other_ends(talker)
                if not is_interrupted:
                    talker.judge(is_over=True)

    async def _until_complete(self) -> None:
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while not all(talker.is_complete for talker in self.talkers):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            for talker in self.talkers:
                talker.judge(is_over=False)
            raise

    async def _until_right(self) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        while differences := await asyncio.to_thread(lambda: list(self._differences())):
            assert time.monotonic() < deadline, differences[:20]
            await asyncio.sleep(0.1)

    def _judge(self, interrupted: list[Talker]) -> None:
        """Who lived through an outage was told so; whose node lost nothing was told nothing."""
        for node in self.cluster.nodes:
            count = figures(node)["realtime_backplane_interruptions_total"]
            is_calm = self._interruptions.get(node.pid) == count
            self._interruptions[node.pid] = count
            for talker in self.talkers:
                talker.judge(is_over=False)
                if is_calm and self._is_on(node, talker.node):
                    assert talker.missed == 0, talker.id
        for talker in interrupted:
            assert talker not in self.talkers or talker.missed > 0, f"{talker.id} was not told of the outage"
        self.told += sum(talker.missed for talker in self.talkers)

    def _differences(self) -> Iterator[str]:
        """Where nodes and rows are not as the clients say they must be."""
        for node in self.cluster.nodes:
            talkers = [talker for talker in self.talkers if self._is_on(node, talker.node)]
            wanted = {
                "websocket_connected_clients": len(talkers),
                "realtime_rooms": len(set().union(*(talker.rooms for talker in talkers))),
                "realtime_backlog_bytes": 0,
                "realtime_nodes": len(self.cluster.nodes),
                "realtime_tracking_pending_rows": 0,
                "realtime_tracking_lost_rows_total": 0,
                "realtime_handler_failures_total": 0,
            }
            found = figures(node)
            wanted["realtime_connections_closed_total"] = int(found["realtime_connections_opened_total"]) - len(talkers)
            yield from (
                f"{node.name}: {name} is {found.get(name, 0.0):g} instead of {value}"
                for name, value in wanted.items()
                if found.get(name, 0.0) != value
            )
        yield from self._differences_of_rows()

    def _differences_of_rows(self) -> Iterator[str]:
        rows = connection_rows(self.cluster)
        live = {key for key, row in rows.items() if row.is_live}
        talking = {talker.id for talker in self.talkers}
        lacking = {key for key in self.welcomed - rows.keys() if not self._may_lack(key)}
        yield from (f"{key} is live" for key in live - talking)
        yield from (f"{key} is not live" for key in talking - live)
        yield from (f"{key} has no row" for key in lacking)
        if len(rows.keys() - self.welcomed) > self.broken_off:
            yield f"{len(rows)} rows of {len(self.welcomed)} connections, {self.broken_off} broken off"
        yield from wrong_ends(rows, self.ends)

    def _may_lack(self, connection_id: str) -> bool:
        """Whether its node was killed before it had written this row."""
        node_id = connection_id.rpartition(".")[0]
        return node_id in self.written and connection_id not in self.written[node_id]

    async def _held(self, node: DaphneNode) -> Held:
        """When nothing is left of clients who are gone; a peer that does not answer a close takes some seconds."""
        clients = sum(self._is_on(node, talker.node) for talker in self.talkers)
        deadline = time.monotonic() + SETTLE_SECONDS
        while (found := await asyncio.to_thread(held, node, clients=clients)).left:
            assert time.monotonic() < deadline, f"{node.name} still has {found.left} of clients who are gone"
            await asyncio.sleep(0.5)
        return found

    def _is_on(self, node: DaphneNode, node_id: str) -> bool:
        return node_id.startswith(f"{node.name}-")
