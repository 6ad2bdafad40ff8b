"""client.d.ts: the TypeScript compiler takes what client.js takes, and it names what client.js has."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from realtime.protocol.errors import ERRORS
from tests.support.browser import SCRIPTS
from tests.support.client_js import TOOLS, Runtime, node_js
from tests.support.npm import node_with

COMPILER = "node_modules/typescript/bin/tsc"
OPTIONS = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022"]


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with node_js() as running:
        yield running


@pytest.fixture(scope="module")
def declared() -> Any:
    return json.loads(_node("members.cjs", str(SCRIPTS / "client.d.ts")).stdout)


def _node(*arguments: str) -> subprocess.CompletedProcess[str]:
    node, directory = node_with(TOOLS)
    return subprocess.run([node, *arguments], cwd=directory, capture_output=True, text=True, timeout=120)


def test_usage_compiles() -> None:
    """Programs with client.js as a module and as a script compile, and what is misspelt does not."""
    done = _node(COMPILER, *OPTIONS, "usage.ts")
    assert (done.returncode, done.stdout) == (0, "")


def test_a_mistake_does_not_compile(tmp_path: Path) -> None:
    """The compiler that accepts the program above is one that reads client.d.ts."""
    program = tmp_path / "wrong.ts"
    program.write_text(f'import {{ RealtimeClient }} from "{SCRIPTS}/client.mjs";\nnew RealtimeClient().join(42);\n')
    done = _node(COMPILER, *OPTIONS, str(program))
    assert done.returncode != 0
    assert re.findall(r"error (TS\d+)", done.stdout) == ["TS2345"], done.stdout


def test_the_declarations_name_what_there_is(runtime: Runtime, declared: dict[str, list[str]]) -> None:
    """Exports, members, statics, options and events are those of client.js, no more and no fewer."""
    found = runtime.run(
        """
        const module = await import("../../../realtime/static/realtime/client.mjs");
        const client = new RealtimeClient("ws://nobody.test/", { WebSocket: class { close() {} } });
        client.close();
        const own = (of) => Object.getOwnPropertyNames(of);
        return {
          values: own(module), members: own(RealtimeClient.prototype).filter((name) => name !== "constructor"),
          statics: own(RealtimeClient).filter((name) => !["length", "name", "prototype"].includes(name)),
          errorMembers: own(new RealtimeError("x", "y", { cause: 1 })),
          options: own(RealtimeClient.DEFAULTS), events: RealtimeClient.EVENTS,
        };
        """
    )
    assert set(declared["values"]) == set(found["values"]) == {"RealtimeClient", "RealtimeError"}
    assert set(declared["members"]) == set(found["members"])
    assert set(declared["statics"]) == {*found["statics"], "shared"}  # shared.js sets it
    assert set(declared["errorMembers"]) == set(found["errorMembers"])
    assert set(declared["options"]) == set(found["options"])
    assert set(declared["events"]) == set(found["events"])


def test_the_declared_error_codes_are_the_servers_and_the_clients() -> None:
    """ErrorCode lists each code of the server, and each that client.js makes itself."""
    code = re.search(r"export type ErrorCode =([^;]+);", (SCRIPTS / "client.d.ts").read_text())
    assert code is not None
    own = set(re.findall(r'new RealtimeError\("(\w+)"', (SCRIPTS / "client.js").read_text()))
    assert set(re.findall(r'"(\w+)"', code[1])) == {error.code for error in ERRORS} | own
