"""The attacker: one function of a test, run in a process of its own that everybody else has precedence over.

``python -m tests.acceptance.abuse.attacker module:function '{…}'``, the fields of ``Target``. It writes one line when
it has imported what it needs; then for each line that it reads it calls the function once, and writes what that
returned as JSON, not before the time of the attack is over.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from devtools.tied import end_with_parent
from tests.acceptance.abuse.others import member
from tests.acceptance.engine.peer import Peer


@dataclass
class Target:
    """Whom to attack, from where, and for how long. An attack is a function of the test's module: `attack(target)`.

    What it returns must be JSON; it ends up in ``Outcome.told``. An assertion that fails in it fails the test.
    """

    port: int
    ports: list[int]  # of all nodes, the attacked one among them
    tokens: list[str]  # of users who have no other connections
    seconds: float  # how long the attack should take
    seed: str
    arguments: dict[str, Any]  # what the test gave to ``withstand``
    niceness: int
    source: str = "127.6.6.6"

    @property
    def rng(self) -> random.Random:
        """The same numbers at each call, for the same ``--seed``."""
        return random.Random(self.seed)

    def connect(self, path: str = "/ws/", **options: Any) -> Peer:
        """A socket after its handshake, on which any bytes may follow. ``source``: the address that it comes from."""
        headers = {"Origin": f"http://127.0.0.1:{self.port}", **options.pop("headers", {})}
        return Peer(self.port, path, **{"source": self.source, **options}, headers=headers)

    def member(self, *rooms: str, user: int = 0, **options: Any) -> Peer:
        """A client that has authenticated as one of the users, and joined."""
        return member(self.port, self.tokens[user], options.pop("source", self.source), *rooms, **options)

    def paced(self, count: int) -> Iterator[int]:
        """So many numbers, evenly over the time that the attack should take."""
        begun = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, begun + self.seconds * number / count - time.monotonic()))
            yield number


def main() -> None:
    """Attack whenever a line comes."""
    end_with_parent(signal.SIGKILL, os.getppid())
    target = Target(**json.loads(sys.argv[2]))
    os.nice(target.niceness)
    module, _, name = sys.argv[1].partition(":")
    attack = getattr(importlib.import_module(module), name)
    print("ready", flush=True)
    for _ in sys.stdin:
        answer: dict[str, Any] = {}
        begun = time.monotonic()
        try:
            answer["told"] = attack(target)
        except BaseException:
            answer["error"] = traceback.format_exc()
        time.sleep(max(0.0, begun + target.seconds - time.monotonic()))  # what it leaves behind counts as well
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
