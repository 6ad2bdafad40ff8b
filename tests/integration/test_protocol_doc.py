"""Every conversation in docs/protocol.md is held with a real cluster, word for word.

The first person of a conversation is on node 1, the second on node 2, the third on node 1 again. A conversation ends
with a broadcast that everybody gets next: nobody has received anything that the document does not show.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from realtime.auth import issue_token
from realtime.protocol import messages
from tests.support.cluster import Cluster
from tests.support.servers import RedisServer

PROTOCOL = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
BLOCK = re.compile(r"^```conversation\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^##+ (?P<title>.+)$", re.MULTILINE)
SPOKEN = re.compile(r"(?P<who>[a-z]+) (?P<way>[→←]) (?P<text>.+)")
IN_ROOM = re.compile(r'# (?P<who>.+) (?:is|are) in "(?P<room>.+)"')
IS_USER = re.compile(r"# (?P<who>.+) (?:is|are) user (?P<user>\d+)")
PLACEHOLDER = re.compile(r"<[^<>]+>")
TOKEN = re.compile(r"<token of user (?P<user>\d+)>")
UNORDERED = frozenset({"members", "joined", "left"})
KEY = "a-key-of-this-test-alone-0123456789abcdef"
SECONDS = 10.0


@dataclass(frozen=True)
class Conversation:
    """One fenced block; ``lines`` without empty ones."""

    title: str
    lines: tuple[str, ...]


def conversations() -> list[Conversation]:
    """All blocks of the document, in order, each under the last heading before it."""
    document = PROTOCOL.read_text()
    found = []
    for block in BLOCK.finditer(document):
        title = [heading["title"] for heading in HEADING.finditer(document, 0, block.start())][-1]
        found.append(Conversation(title, tuple(filter(None, block["text"].splitlines()))))
    return found


CONVERSATIONS = conversations()


def test_every_example_is_a_conversation() -> None:
    """The document has no fenced block that no test would run."""
    fences = [line for line in PROTOCOL.read_text().splitlines() if line.startswith("```")]
    assert fences == ["```conversation", "```"] * len(CONVERSATIONS)


def test_every_message_has_an_example() -> None:
    """Each command is sent, and each reply and push is received, in some conversation."""
    spoken = [found for each in CONVERSATIONS for line in each.lines if (found := SPOKEN.fullmatch(line))]
    sent = {kind for line in spoken if line["way"] == "→" for kind in re.findall(r'"type":"(\w+)"', line["text"])}
    received = {json.loads(line["text"])["type"] for line in spoken if line["way"] == "←"}
    assert {kind.__struct_config__.tag for kind in messages.COMMANDS} <= sent
    assert {kind.__struct_config__.tag for kind in messages.OUTBOUND} == received


@pytest.fixture(scope="module")
def pair(redis_server: RedisServer) -> Iterator[Cluster]:
    """Two nodes that know each other: each has heard of the member that the other one has in a room."""
    with Cluster(redis_server.url, nodes=2, environment={"REALTIME_TOKEN_KEYS": KEY}) as cluster:
        with connect(cluster.nodes[0].url) as one, connect(cluster.nodes[1].url) as two:
            ids = {enter_common_room(one), enter_common_room(two)}
            wait_for_members(one, ids)
            wait_for_members(two, ids)
        yield cluster


def enter_common_room(client: ClientConnection) -> str:
    """Join; returns the client's id."""
    client.send('{"type":"join","room":"common"}')
    own_id = json.loads(client.recv(SECONDS))["id"]
    assert json.loads(client.recv(SECONDS))["type"] == "joined"
    return str(own_id)


def wait_for_members(client: ClientConnection, ids: set[str]) -> None:
    """Ask who is in the room, again and again, until all are told."""
    for _ in range(500):
        client.send('{"type":"join","room":"common","members":true}')
        while (reply := json.loads(client.recv(SECONDS)))["type"] != "joined":
            pass  # a change of the members
        if {member["id"] for member in reply["members"]} == ids:
            return
    raise AssertionError("the nodes do not know each other")


class Stage:
    """The people of one conversation, and the values that its placeholders stand for."""

    def __init__(self, cluster: Cluster, redis: RedisServer, exits: ExitStack) -> None:
        self.cluster = cluster
        self.exits = exits  # closes the connections
        self.redis = redis
        self.people: dict[str, ClientConnection] = {}
        self.welcomes: dict[str, Any] = {}
        self.values: dict[str, Any] = {}

    def enter(self, names: list[str]) -> None:
        """Everybody connects; the welcomes are kept until somebody shows one."""
        for name, node in zip(names, itertools.cycle(self.cluster.nodes), strict=False):
            client = self.people[name] = self.exits.enter_context(connect(node.url))
            welcome = self.welcomes[name] = json.loads(client.recv(SECONDS))
            self.values |= {f"<{name}>": welcome["id"], f"<node of {name}>": welcome["node"]}

    def play(self, line: str) -> None:
        """Do, or check, what one line says."""
        if spoken := SPOKEN.fullmatch(line):
            if spoken["way"] == "→":
                self.people[spoken["who"]].send(self.fill(spoken["text"]))
            else:
                self.hear(spoken["who"], json.loads(spoken["text"]))
        elif line.startswith("$ "):
            self.publish(shlex.split(self.fill(line)))
        elif room := IN_ROOM.fullmatch(line):
            self.prepare(room["who"], {"type": "join", "room": room["room"]}, "joined")
        elif user := IS_USER.fullmatch(line):
            token = self.fill(f"<token of user {user['user']}>")
            self.prepare(user["who"], {"type": "authenticate", "token": token}, "authenticated")
        else:
            raise AssertionError(f"not understood: {line}")

    def prepare(self, who: str, command: dict[str, Any], reply: str) -> None:
        for name in who.split(" and "):
            self.people[name].send(json.dumps(command))
            assert json.loads(self.people[name].recv(SECONDS))["type"] == reply

    def publish(self, words: list[str]) -> None:
        """A foreign service publishes; in this cluster the prefix is another one."""
        assert words[:3] == ["$", "redis-cli", "PUBLISH"], words
        channel = re.sub("^asgi__", f"{self.cluster.prefix}__", words[3])
        assert channel != words[3]
        receivers = self.redis.command("PUBLISH", channel, words[4])
        assert receivers != b":0\r\n", f"nobody listens to {channel}"

    def hear(self, who: str, expected: Any) -> None:
        is_welcome = expected["type"] == "welcome"
        actual = self.welcomes[who] if is_welcome else json.loads(self.people[who].recv(SECONDS))
        assert self.matches(expected, actual), f"{who} heard {actual}"

    def fill(self, text: str) -> str:
        """The text with its placeholders replaced, tokens issued on demand."""
        for found in TOKEN.finditer(text):
            self.values.setdefault(found[0], issue_token(found["user"], keys=[KEY]))
        return PLACEHOLDER.sub(lambda found: str(self.values[found[0]]), text)

    def matches(self, expected: Any, actual: Any, field: str = "") -> bool:
        """Equal; a placeholder equals anything at first, and the same value from then on."""
        if isinstance(expected, str) and PLACEHOLDER.fullmatch(expected):
            return bool(self.values.setdefault(expected, actual) == actual)
        if isinstance(expected, dict) and isinstance(actual, dict):
            return expected.keys() == actual.keys() and all(
                self.matches(expected[key], actual[key], key) for key in expected
            )
        if isinstance(expected, list) and isinstance(actual, list) and field in UNORDERED:
            return any(self.equal(list(order), actual) for order in itertools.permutations(expected))
        if isinstance(expected, list) and isinstance(actual, list):
            return self.equal(expected, actual)
        return bool(expected == actual and type(expected) is type(actual))

    def equal(self, expected: list[Any], actual: list[Any]) -> bool:
        return len(expected) == len(actual) and all(map(self.matches, expected, actual))

    def end(self) -> None:
        """Nobody has received anything that was not shown."""
        first = next(iter(self.people.values()))
        first.send('{"type":"broadcast","data":"The end","echo":true}')
        for name, client in self.people.items():
            message = json.loads(client.recv(SECONDS))
            assert message.get("data") == "The end", f"{name} also heard {message}"


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda each: each.title)
def test_a_conversation_goes_as_documented(
    conversation: Conversation, pair: Cluster, redis_server: RedisServer
) -> None:
    """What is sent is answered as shown, everybody else hears what is shown, and nobody hears anything else."""
    text = "\n".join(conversation.lines)
    names = dict.fromkeys(re.findall(r"\b(?:ann|ben|cleo)\b", text))
    with ExitStack() as exits:
        stage = Stage(pair, redis_server, exits)
        stage.enter(list(names))
        for line in conversation.lines:
            stage.play(line)
        stage.end()
