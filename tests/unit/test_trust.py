"""Trust in the backplane is lost at once and won back by a full round of echoes."""

from __future__ import annotations

import asyncio

from realtime.echo import EchoProbe
from realtime.tasks import TaskGroup
from realtime.trust import Gap, Trust


class Backplane:
    """Echoes the probes of the shards in ``hears``, at the next turn of the loop."""

    def __init__(self, shards: int) -> None:
        self.hears = set(range(shards))
        self.lost = 0
        self.restored: list[Gap] = []
        self.echoes: list[float] = []
        self.tasks = TaskGroup()
        self.trust = Trust(
            self.tasks,
            send_probe=self._echo,
            on_lost=self._lost,
            on_restored=lambda gap, seconds: self.restored.append(gap),
            on_echo=self.echoes.append,
            echo_timeout_seconds=0.02,
        )
        self.shards = shards

    def _echo(self, shard: int, nonce: int) -> None:
        if shard in self.hears:
            asyncio.get_running_loop().call_soon(self.trust.heard, shard, nonce)

    def _lost(self) -> None:
        self.lost += 1

    async def until_trusted(self) -> None:
        async with asyncio.timeout(5):
            while not self.trust.is_trusted or len(self.tasks):
                await asyncio.sleep(0.001)


async def test_trust_needs_an_echo_on_every_shard() -> None:
    """One deaf shard is enough to refuse publishes."""
    backplane = Backplane(2)
    backplane.hears = {0}
    backplane.trust.begin(2, is_subscribed=True)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not backplane.trust.is_trusted
    backplane.hears = {0, 1}
    await backplane.until_trusted()
    assert backplane.restored == [frozenset()]


async def test_each_full_round_of_echoes_is_timed_once() -> None:
    """From its question to the answer of the last shard; half a round is none."""
    backplane = Backplane(2)
    backplane.hears = {0}
    backplane.trust.begin(2, is_subscribed=True)
    for _ in range(20):
        await asyncio.sleep(0)
    assert backplane.echoes == []
    backplane.hears = {0, 1}
    await backplane.until_trusted()
    (seconds,) = backplane.echoes
    assert 0 <= seconds < 5


async def test_an_interruption_tells_which_groups_may_have_missed_something() -> None:
    """Once, after the echo is back."""
    backplane = Backplane(1)
    backplane.trust.begin(1, is_subscribed=True)
    await backplane.until_trusted()
    backplane.trust.subscription_lost()
    assert not backplane.trust.is_trusted
    assert backplane.lost == 1
    await asyncio.sleep(0)
    assert not backplane.trust.is_trusted
    backplane.trust.subscription_resumed(["rt.r.a"])
    await backplane.until_trusted()
    assert backplane.restored == [frozenset(), frozenset({"rt.r.a"})]


async def test_a_failed_publish_costs_trust_but_nobody_missed_anything() -> None:
    """The subscription was never interrupted."""
    backplane = Backplane(1)
    backplane.trust.begin(1, is_subscribed=True)
    await backplane.until_trusted()
    backplane.trust.lose()
    await backplane.until_trusted()
    assert backplane.restored == [frozenset(), frozenset()]


async def test_an_echo_that_stays_away_until_the_next_heartbeat_costs_trust() -> None:
    """A backplane that takes publishes and delivers nothing is dead; then anybody may have missed anything."""
    backplane = Backplane(1)
    backplane.trust.begin(1, is_subscribed=True)
    await backplane.until_trusted()
    backplane.trust.beat()
    await asyncio.sleep(0)
    backplane.trust.beat()
    assert backplane.trust.is_trusted
    await asyncio.sleep(0)
    backplane.hears = set()
    backplane.trust.beat()
    await asyncio.sleep(0)
    backplane.trust.beat()
    assert not backplane.trust.is_trusted
    backplane.hears = {0}
    await backplane.until_trusted()
    assert backplane.restored[-1] is None


async def test_the_end_stops_the_attempts() -> None:
    """Nothing of it survives the node."""
    backplane = Backplane(1)
    backplane.hears = set()
    backplane.trust.begin(1, is_subscribed=True)
    await asyncio.sleep(0)
    backplane.trust.end()
    await backplane.tasks.cancel()
    assert len(backplane.tasks) == 0


def test_echoes_of_earlier_rounds_prove_nothing() -> None:
    """Nor do repeated ones."""
    probe = EchoProbe(2)
    old = probe.begin()
    new = probe.begin()
    assert not probe.heard(0, old)
    assert not probe.heard(0, new)
    assert not probe.heard(0, new)
    assert probe.missing == {1}
    assert probe.heard(1, new)
    assert not probe.heard(1, new)
