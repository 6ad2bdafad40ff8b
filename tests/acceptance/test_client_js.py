"""client.js in a real browser, against a peer that does what each test says, in time that the test moves."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from realtime.protocol.closing import CLOSE_CODES, CloseCode
from tests.support.browser import SCRIPTS, RunScript, client_js
from tests.support.processes import CHECKOUT

DOCUMENT = CHECKOUT / "docs" / "client.md"
WORDS = {True: "yes", False: "no", "once": "once"}


@pytest.fixture(scope="module")
def run() -> Iterator[RunScript]:
    with client_js() as runs:
        yield runs


# --- Loading ------------------------------------------------------------------------------------------------------


def test_it_is_a_script_and_a_module(run: RunScript) -> None:
    """The plain script sets one global name; client.mjs exports the same client for `import`."""
    names = run(
        """
        const before = Object.keys(globalThis).includes("RealtimeClient");
        const module = await import("/client.mjs");
        return [before, module.RealtimeClient === RealtimeClient, new module.RealtimeError("x", "y").code];
        """
    )
    assert names == [True, True, "x"]


@pytest.mark.parametrize(
    ("url", "absolute"),
    [
        ("/ws/", "ws://client.test/ws/"),
        ("https://chat.example/ws/", "wss://chat.example/ws/"),
        ("wss://chat.example/ws", "wss://chat.example/ws"),
    ],
)
def test_an_address_may_be_relative_or_absolute(run: RunScript, url: str, absolute: str) -> None:
    """The page's own scheme and host complete a relative address; http becomes ws, https becomes wss."""
    assert run(f"connect({{}}, {url!r}); return peer().url") == absolute


def test_misspelt_options_and_events_are_refused(run: RunScript) -> None:
    """An unknown option or event is a TypeError that names it."""
    messages = run(
        """
        const catching = (action) => { try { action(); } catch (error) { return `${error.name}: ${error.message}`; } };
        return [catching(() => connect({ backof: 1 })), catching(() => connect().on("rooom", () => {}))];
        """
    )
    assert messages[0] == 'TypeError: RealtimeClient has no option "backof"'
    assert messages[1].startswith('TypeError: RealtimeClient has no event "rooom"')


# --- Commands and events ------------------------------------------------------------------------------------------


def test_each_command_gets_its_own_answer(run: RunScript) -> None:
    """Answers find their command by `ref`, in whatever order they come; an error rejects with code and wait."""
    results = run(
        """
        const client = connect(); await open();
        const first = client.broadcast(1), second = client.room("a", 2), third = client.private("c9", 3);
        peer().answer("private", { type: "error", code: "rate_limited", message: "Too many", retry_after: 1.5 });
        peer().answer("room", { type: "ack" });
        peer().answer("broadcast", { type: "ack" });
        const sent = peer().received.map(({ ref, ...command }) => command);
        return [sent, await outcome(first), await outcome(second), await outcome(third)];
        """
    )
    assert results == [
        [
            {"type": "broadcast", "data": 1},
            {"type": "room", "room": "a", "data": 2},
            {"type": "private", "to": "c9", "data": 3},
        ],
        ["resolved", {}],
        ["resolved", {}],
        ["rejected", "rate_limited", 1.5],
    ]


def test_commands_of_the_project(run: RunScript) -> None:
    """Their fields are sent as they are, and what the handler returned comes back; an ``ack`` says nothing."""
    results = run(
        """
        const client = connect(); await open();
        const told = client.command("order.move", { order: 7, type: "join" }), silent = client.command("order.touch");
        const refused = client.command("order.eat", { order: 7 });
        peer().answer("order.eat", { type: "error", code: "sold", message: "It is sold." });
        peer().answer("order.touch", { type: "ack" });
        peer().answer("order.move", { type: "order.move", data: { to: "kitchen" } });
        const sent = peer().received.map(({ ref, ...command }) => command);
        return [sent, await outcome(told), (await outcome(silent))[0], (await outcome(refused)).slice(0, 2)];
        """
    )
    assert results == [
        [
            {"type": "order.move", "order": 7},
            {"type": "order.touch"},
            {"type": "order.eat", "order": 7},
        ],
        ["resolved", {"to": "kitchen"}],
        "resolved",
        ["rejected", "sold"],
    ]


def test_without_a_connection_commands_fail_at_once(run: RunScript) -> None:
    """A command is rejected with "disconnected" while nothing is open, and when its connection ends unanswered."""
    outcomes = run(
        """
        const client = connect();
        const early = client.broadcast(1);
        await open();
        const unanswered = client.broadcast(2);
        peer().end(1006);
        return [await outcome(early), await outcome(unanswered)];
        """
    )
    assert outcomes == [["rejected", "disconnected", None]] * 2


def test_a_command_without_an_answer_times_out(run: RunScript) -> None:
    """After commandTimeoutSeconds a command is rejected with "timeout", and its late answer disturbs nobody."""
    results = run(
        """
        const client = connect({ commandTimeoutSeconds: 3 }); await open();
        const slow = client.room("a", 1);
        await advance(2.9);
        const before = await outcome(slow);
        await advance(0.2);
        peer().answer("room", { type: "ack" });
        return [before, await outcome(slow), client.state];
        """
    )
    assert results == ["pending", ["rejected", "timeout", None], "open"]


def test_pushes_are_events(run: RunScript) -> None:
    """Publications, members and `missed` arrive as events with their fields; types of newer servers are ignored."""
    received = run(
        """
        const client = connect(); await open();
        seen.length = 0;
        peer().say({ type: "broadcast", from: "c2", data: 1 });
        peer().say({ type: "room", room: "a", from: null, data: { b: 2 } });
        peer().say({ type: "private", from: "c3", data: "x" });
        peer().say({ type: "members", room: "a", joined: [{ id: "c4", user: null }], left: [] });
        peer().say({ type: "missed", rooms: ["a"] });
        peer().say({ type: "from-the-future" });
        peer().onmessage({ data: "not JSON" });
        return seen.map(([event, { code, ...detail }]) => [event, code ?? detail]);
        """
    )
    assert received == [
        ["broadcast", {"from": "c2", "data": 1}],
        ["room", {"room": "a", "from": None, "data": {"b": 2}}],
        ["private", {"from": "c3", "data": "x"}],
        ["members", {"room": "a", "joined": [{"id": "c4", "user": None}], "left": []}],
        ["missed", {"rooms": ["a"], "cause": "server"}],
        ["error", "bad_json"],
    ]


def test_a_failing_listener_disturbs_nobody(run: RunScript) -> None:
    """A listener that throws is reported to the page; the next one is called, and off() ends a listener's calls."""
    assert run(
        """
        const heard = [], reported = [];
        addEventListener("error", (event) => { reported.push(event.message); event.preventDefault(); });
        const client = connect(); await open();
        client.on("broadcast", () => { throw new Error("mine"); });
        const off = client.on("broadcast", ({ data }) => heard.push(data));
        peer().say({ type: "broadcast", from: "c2", data: 1 });
        off();
        peer().say({ type: "broadcast", from: "c2", data: 2 });
        return [heard, reported.length, client.state];
        """
    ) == [[1], 2, "open"]


# --- Reconnecting -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("close", CLOSE_CODES, ids=lambda close: close.name)
def test_close_codes_are_obeyed(run: RunScript, close: CloseCode) -> None:
    """Whatever the chance, a client waits at least as long as the close code asks, or does not come back at all."""
    state, delay, peers = run(
        f"""
        chance = 0;
        const client = connect(); await open();
        peer().end({close.code}, {close.reason!r});
        const state = client.state;
        await advance({max(close.wait_seconds - 0.01, 0)});
        const early = Peer.all.length;
        await advance(60);
        const wait = events("state").find(({{ state }}) => state === "waiting");
        return [state, wait?.delaySeconds ?? null, [early, Peer.all.length]];
        """
    )
    if close.should_reconnect:
        assert (state, delay) == ("waiting", close.wait_seconds)
        assert peers[0] == (1 if close.wait_seconds else 2)
        assert peers[1] > 1
    else:
        assert (state, peers) == ("closed", [1, 1])


def test_waits_grow_with_full_jitter(run: RunScript) -> None:
    """The wait is random between nothing and a ceiling that doubles from 0.5 to 20 seconds."""
    delays = run(
        """
        connect();
        const delays = [];
        for (chance of [1, 1, 1, 1, 1, 1, 1, 0.25, 0]) {
          peer().end(1006);
          delays.push(events("state").at(-1).delaySeconds);
          await advance(delays.at(-1));
        }
        return delays;
        """
    )
    assert delays == [0.5, 1, 2, 4, 8, 16, 20, 5, 0]


@pytest.mark.parametrize(("open_seconds", "delay"), [(1, 2), (11, 0.5)])
def test_only_a_stable_connection_starts_the_backoff_anew(run: RunScript, open_seconds: int, delay: float) -> None:
    """A server that accepts and soon drops is not hammered: the ceiling falls back after ten seconds of being open."""
    assert (
        run(
            f"""
            chance = 1;
            connect();
            peer().end(1006); await advance(1);
            peer().end(1006); await advance(2);
            await open(); await advance({open_seconds});
            peer().end(1006);
            return events("state").at(-1).delaySeconds;
            """
        )
        == delay
    )


def test_a_server_that_says_no_welcome_is_left(run: RunScript) -> None:
    """A connection that is not welcomed in time counts as lost, and its socket is closed."""
    assert run(
        """
        chance = 0;
        const client = connect({ connectTimeoutSeconds: 4 });
        await advance(4.1);
        return [Peer.all.length, Peer.all[0].closedWith !== null, client.state];
        """
    ) == [2, True, "connecting"]


def test_a_lost_socket_is_not_heard_any_more(run: RunScript) -> None:
    """What an old socket still says or does after the client gave it up changes nothing."""
    assert run(
        """
        chance = 0;
        const client = connect(); await open();
        const old = peer();
        old.end(1006); await advance(0.1); await open();
        old.say({ type: "broadcast", from: "c9", data: 1 });
        old.end(4001, "Unauthorized");
        return [client.state, events("broadcast").length, client.node];
        """
    ) == ["open", 0, "n2"]


def test_back_online_it_connects_at_once(run: RunScript) -> None:
    """The browser's `online` event ends a wait of the client's own, but not one that the server asked for."""
    assert run(
        """
        chance = 1;
        const client = connect();
        peer().end(1006);
        dispatchEvent(new Event("online"));
        const hurried = Peer.all.length;
        await open();
        peer().end(1008, "Policy violation");
        dispatchEvent(new Event("online"));
        return [hurried, Peer.all.length, client.state];
        """
    ) == [2, 2, "waiting"]


def test_connect_ends_a_wait(run: RunScript) -> None:
    """connect() tries now, and once: the wait's own attempt does not follow; it also revives a closed client."""
    assert run(
        """
        chance = 0;
        const client = connect();
        peer().end(1013); client.connect(); client.connect();
        await advance(9);
        const once = Peer.all.length;
        peer().end(4003, "Forbidden"); client.connect();
        return [once, Peer.all.length, client.state];
        """
    ) == [2, 3, "connecting"]


def test_close_is_final(run: RunScript) -> None:
    """close() rejects what waits, closes the socket with 1000, lets go of the page, and nothing reconnects."""
    assert run(
        """
        const forgotten = [];
        globalThis.removeEventListener = (type) => forgotten.push(type);
        const client = connect(); await open();
        const joining = client.join("a"), sending = client.broadcast(1);
        client.close();
        const late = client.join("b");
        dispatchEvent(new Event("online"));
        await advance(100);
        const outcomes = [await outcome(joining), await outcome(sending), await outcome(late)];
        const how = outcomes.map(([settled]) => settled);
        return [how, peer().closedWith, Peer.all.length, client.state, client.rooms, forgotten];
        """
    ) == [["rejected"] * 3, 1000, 1, "closed", [], ["online", "offline", "visibilitychange"]]


# --- Its page in docs/ --------------------------------------------------------------------------------------------


def test_the_documented_close_codes_are_those_of_the_code(run: RunScript) -> None:
    """The table of close codes in docs/client.md equals the one in client.js, row by row."""
    rows = run("return RealtimeClient.CLOSE_CODES.map((rule) => ({ ...rule }))")
    documented = [
        f"| {row['code']} | {row['reason'] or 'any'} | {WORDS[row['reconnect']]} "
        f"| {row['waitSeconds']} s | {row['spreadSeconds']} s |"
        for row in rows
    ]
    assert re.findall(r"^\| \d{4} \|.*$", DOCUMENT.read_text(), re.MULTILINE) == documented


def test_the_documented_options_are_those_of_the_code() -> None:
    """The table of options in docs/client.md names each option of client.js with its default, in the same order."""
    defaults = (SCRIPTS / "client.js").read_text().partition("const DEFAULTS = {")[2].partition("};")[0]
    options = re.findall(r"^ +(\w+): ([^,]+),", defaults, re.MULTILINE)
    table = DOCUMENT.read_text().partition("\n## Options\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \| `(.+?)` \|", table, re.MULTILINE) == options
