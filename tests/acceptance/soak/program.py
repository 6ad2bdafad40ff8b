"""What a soak does, drawn before it begins: the same random numbers make the same program.

What comes of a step depends on the moment (who is connected then, which node is up), so that a run is repeated as a
program, not message by message.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

ROUND_SECONDS = 8.0  # of steps; the look that follows takes two more, or as long as the cluster needs to be whole
LOOK_SECONDS = 2.0
STEP_SECONDS = 0.04
ROUNDS_MIN = 6
ROOMS = tuple(f"room {number}" for number in range(8))
CROWD = 100
"""Passers-by that connect at the same moment."""


class Act(Enum):
    """What a step does; its value is how often, in a thousand steps."""

    CONNECT = 120
    CLOSE = 45  # properly
    ABORT = 45  # without a word
    JOIN = 150
    LEAVE = 60
    TALK = 330  # to a room
    BROADCAST = 40
    WHISPER = 130  # in private
    CROWD = 40
    DISCONNECT = 5  # from outside, with manage.py
    HALF_READ = 60
    FLOOD = 40  # into the room of those that read half


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
    acts, weights = list(Act), [act.value for act in Act]
    steps = []
    for number in range(round(ROUND_SECONDS / STEP_SECONDS)):
        act = rng.choices(acts, weights)[0]
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
