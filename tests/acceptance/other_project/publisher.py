"""A program without a node that publishes: `python -m tests.acceptance.other_project.publisher HOW ROOM COUNT`.

It publishes once, says "warm", and waits for a line; then it publishes numbers from 0 to COUNT - 1 and says "done".
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import django

from realtime.api import apublish_room, publish_broadcast, publish_room
from realtime.exceptions import BackplaneUnavailable


def say(word: str) -> None:
    print(word, flush=True)


def after_warming_up(publish: Callable[[object], None], count: int) -> None:
    publish("warm")
    say("warm")
    sys.stdin.readline()
    for number in range(count):
        publish(number)
    say("done")


def in_this_thread(room: str, count: int) -> None:
    after_warming_up(lambda data: publish_room(room, data), count)


def in_new_threads(room: str, count: int) -> None:
    """Each call in a thread of its own, one after the other."""

    def publish(data: object) -> None:
        thread = threading.Thread(target=publish_room, args=(room, data))
        thread.start()
        thread.join()

    after_warming_up(publish, count)


def in_many_threads(room: str, count: int) -> None:
    """Many calls at the same time."""
    publish_room(room, "warm")
    say("warm")
    sys.stdin.readline()
    with ThreadPoolExecutor(max_workers=20) as pool:
        list(pool.map(lambda number: publish_room(room, number), range(count)))
    say("done")


def in_one_loop(room: str, count: int) -> None:
    """All calls under way together, in an event loop of the caller's."""

    async def main() -> None:
        await apublish_room(room, "warm")
        say("warm")
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(apublish_room(room, number) for number in range(count)))
        say("done")

    asyncio.run(main())


def in_new_loops(room: str, count: int) -> None:
    """A new event loop for each call, as `asyncio.run` in a script or in a task makes them."""
    after_warming_up(lambda data: asyncio.run(apublish_room(room, data)), count)


def in_a_fork(room: str, count: int) -> None:
    """The parent has published; a child that it forks publishes on."""
    publish_room(room, "parent")
    child = os.fork()
    if child == 0:
        in_this_thread(room, count)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    publish_room(room, "parent again")


def in_a_worker(room: str, count: int) -> None:
    """The same with multiprocessing, as pre-forking servers and task queues do it."""
    publish_room(room, "parent")
    context = multiprocessing.get_context("fork")
    stdin = os.dup(0)

    def work() -> None:
        sys.stdin = os.fdopen(stdin)
        in_this_thread(room, count)

    worker = context.Process(target=work)
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    publish_room(room, "parent again")


def failing(room: str, count: int) -> None:
    """Says how each publication ends, and after how many seconds."""
    calls: list[Callable[[], None]] = [
        lambda: publish_room(room, 1),
        lambda: publish_broadcast(1),
        lambda: asyncio.run(apublish_room(room, 1)),
    ]
    for call in calls[:count]:
        began = time.monotonic()
        try:
            call()
        except BackplaneUnavailable:
            outcome = "unavailable"
        else:
            outcome = "taken"
        say(f"{outcome} {time.monotonic() - began:.3f}")


WAYS = {
    "function": in_this_thread,
    "threads": in_new_threads,
    "pool": in_many_threads,
    "loop": in_one_loop,
    "loops": in_new_loops,
    "fork": in_a_fork,
    "worker": in_a_worker,
    "failing": failing,
}

if __name__ == "__main__":
    django.setup()
    WAYS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
