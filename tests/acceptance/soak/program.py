"""What a soak does, drawn before it begins: the same random numbers make the same program.

What comes of a step depends on the moment (who is connected then, which node is up), so that a run is repeated as a
program, not message by message.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum, auto

ROUND_SECONDS = 8.0  # of steps; the look that follows takes two more, or as long as the cluster needs to be whole
LOOK_SECONDS = 2.0
STEP_SECONDS = 0.04
ROUNDS_MIN = 6
ROOMS = tuple(f"room {number}" for number in range(8))
CROWD = 100
"""Passers-by that connect at the same moment."""


class Act(Enum):
    """What a step does."""

    CONNECT = auto()
    CROWD = auto()  # many at the same moment, who soon go
    CLOSE = auto()  # properly
    ABORT = auto()  # without a word
    DISCONNECT = auto()  # by an operator, with manage.py
    JOIN = auto()
    LEAVE = auto()
    TALK = auto()  # to a room
    BROADCAST = auto()
    WHISPER = auto()  # in private
    HALF_READ = auto()  # one that stops reading
    FLOOD = auto()  # into the room of those that read half


WEIGHTS = {
    Act.CONNECT: 120,
    Act.CROWD: 30,
    Act.CLOSE: 45,
    Act.ABORT: 45,
    Act.DISCONNECT: 5,
    Act.JOIN: 150,
    Act.LEAVE: 60,
    Act.TALK: 330,
    Act.BROADCAST: 30,
    Act.WHISPER: 130,
    Act.HALF_READ: 60,
    Act.FLOOD: 20,
}
"""How often each is, among a thousand steps or so."""


class Disturbance(Enum):
    """What goes wrong in a round."""

    OUTAGE = "Redis is killed and started again"
    STANDSTILL = "Redis is stopped and goes on"
    FREEZE = "a node is stopped for longer than the node timeout, and goes on"
    KILL = "a node is killed and started again"
    RESTART = "a node is told to end, and is started again"


@dataclass(frozen=True, slots=True)
class Step:
    """``pick`` and ``other`` choose among those who are there at that moment: 0 is the oldest of them."""

    at: float
    act: Act
    node: int
    pick: float
    other: float
    room: str
    count: int


@dataclass(frozen=True, slots=True)
class Round:
    disturbance: Disturbance
    disturbed_at: float
    steps: tuple[Step, ...]


def draw(rng: random.Random, seconds: float) -> list[Round]:
    """A program of about that length, in which everything happens at least once.

    Redis fails and a node freezes in the first two rounds: what that takes of memory is there before it is compared.
    """
    count = max(ROUNDS_MIN, round(seconds / (ROUND_SECONDS + LOOK_SECONDS)))
    disturbances = [Disturbance.OUTAGE, Disturbance.FREEZE]
    while len(disturbances) < count:
        everything = list(Disturbance)
        rng.shuffle(everything)
        rarest = [each for each in everything if each not in disturbances]
        disturbances += rarest or everything
    return [_round(rng, disturbance) for disturbance in disturbances[:count]]


def _round(rng: random.Random, disturbance: Disturbance) -> Round:
    steps = []
    for number in range(round(ROUND_SECONDS / STEP_SECONDS)):
        act = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        steps.append(
            Step(
                at=number * STEP_SECONDS,
                act=act,
                node=rng.randrange(3),
                pick=rng.random(),
                other=rng.random(),
                room=rng.choice(ROOMS),
                count=rng.randint(1, 5),
            )
        )
    return Round(disturbance, rng.uniform(0.5, 1.0), tuple(steps))
