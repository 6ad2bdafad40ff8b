"""A program without a node that asks: `python -m tests.acceptance.operating.asker CALL ARGUMENTS`, both as JSON.

It calls functions of `realtime.api` one after the other, in a thread without a loop (or, with an `a` in front, in a
loop) and prints each answer with the seconds that it took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import django
import msgspec


def call(name: str, arguments: dict[str, Any]) -> object:
    from realtime import api

    function = getattr(api, name)
    return asyncio.run(function(**arguments)) if name.startswith("a") else function(**arguments)


def main() -> None:
    django.setup()
    for name, arguments in json.loads(sys.argv[1]):
        began = time.monotonic()
        try:
            answer = call(name, arguments)
        except Exception as error:
            answer = {"error": type(error).__name__}
        said = {"seconds": time.monotonic() - began, "answer": answer}
        print(msgspec.json.encode(said).decode(), flush=True)


if __name__ == "__main__":
    main()
