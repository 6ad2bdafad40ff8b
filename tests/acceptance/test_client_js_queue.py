"""client.js in a real browser: what waits for a connection, and what a server asks for that has had too much.

See test_client_js.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.browser import RunScript, client_js

# What a server says of a command that came too fast: it has not read it, and knows no `ref`.
UNREAD = '{ type: "error", code: "rate_limited", message: "Too many", retry_after: 0.5 }'
# Types of what the last peer received, and their `data` or room.
SENT = "peer().received.map(({ type, room, data }) => [type, data ?? room ?? null])"


@pytest.fixture(scope="module")
def run() -> Iterator[RunScript]:
    with client_js() as runs:
        yield runs


# --- The queue ----------------------------------------------------------------------------------------------------


def test_an_error_says_whether_the_command_had_left(run: RunScript) -> None:
    """`wasSent` is false when a command certainly was not done, and true when that cannot be known."""
    assert run(
        """
        const client = connect({ commandTimeoutSeconds: 3 });
        const failed = (promise) => promise.then(() => null, ({ code, wasSent }) => [code, wasSent]);
        const early = failed(client.broadcast(1));
        await open();
        const slow = failed(client.broadcast(2));
        await advance(3.1);
        const refused = failed(client.room("a", 3));
        peer().answer("room", { type: "error", code: "not_joined", message: "Join first" });
        const unanswered = failed(client.broadcast(4));
        peer().end(1006);
        return [await early, await slow, await refused, await unanswered];
        """
    ) == [["disconnected", False], ["timeout", True], ["not_joined", True], ["disconnected", True]]


def test_queued_publications_are_sent_after_the_rooms_are_joined_again(run: RunScript) -> None:
    """With `queueMax`, what is published without a connection is sent in its order, once the rooms are back."""
    assert run(
        f"""
        chance = 0;
        const client = connect({{ queueMax: 10 }}); await open();
        client.join("a");
        peer().answer("join", {{ type: "joined", room: "a" }});
        await settle();
        peer().end(1006);
        const promises = [client.room("a", 1), client.room("a", 2)];
        await advance(0.1); await open();
        promises.push(client.room("a", 3));
        const before = {SENT};
        peer().answer("join", {{ type: "joined", room: "a" }});
        await settle();
        const after = {SENT};
        for (const {{ type, ref }} of peer().received) if (type === "room") peer().say({{ type: "ack", ref }});
        return [before, after, await Promise.all(promises.map(outcome))];
        """
    ) == [
        [["join", "a"]],
        [["join", "a"], ["room", 1], ["room", 2], ["room", 3]],
        [["resolved", {}]] * 3,
    ]


@pytest.mark.parametrize("options", ["{ queueMax: 2 }", "{ queueMax: 100, queueMaxBytes: 100 }"])
def test_the_queue_has_a_bound(run: RunScript, options: str) -> None:
    """Beyond `queueMax` publications or `queueMaxBytes` one more is rejected at once; those before it are sent."""
    results = run(
        f"""
        const client = connect({options});
        const promises = [1, 2, 3].map((data) => client.broadcast(data));
        const full = await outcome(promises[2]);
        await open();
        return [full, {SENT}];
        """
    )
    assert results == [["rejected", "queue_full", None], [["broadcast", 1], ["broadcast", 2]]]


def test_what_waited_too_long_is_not_sent(run: RunScript) -> None:
    """After `queueSeconds` a publication is rejected with what was in its way, makes room, and is never sent."""
    assert run(
        f"""
        const client = connect({{ queueMax: 1, queueMaxBytes: 60, queueSeconds: 5, connectTimeoutSeconds: 100 }});
        const old = client.broadcast("old");
        await advance(4.9);
        const before = await outcome(old);
        await advance(0.2);
        client.broadcast("new");
        await open();
        return [before, await outcome(old), {SENT}];
        """
    ) == ["pending", ["rejected", "disconnected", None], [["broadcast", "new"]]]


def test_close_empties_the_queue(run: RunScript) -> None:
    """close() rejects what waits, with "closed"; a client that connects again begins with nothing."""
    assert run(
        f"""
        const client = connect({{ queueMax: 2 }});
        const promises = [client.broadcast(1), client.broadcast(2)];
        client.close();
        promises.push(client.broadcast(3));
        const outcomes = await Promise.all(promises.map(outcome));
        client.connect();
        const fresh = [client.broadcast(4), client.broadcast(5)];
        await open();
        return [outcomes, {SENT}];
        """
    ) == [[["rejected", "closed", None]] * 3, [["broadcast", 4], ["broadcast", 5]]]


def test_commands_that_are_too_large_stay_here(run: RunScript) -> None:
    """A command beyond the server's limit in bytes is rejected with "too_large" and not sent: its answer would have
    no `ref`."""
    assert run(
        f"""
        const client = connect(); await open({{ limits: {{ command_max_bytes: 100 }} }});
        const large = client.broadcast("\\u00e9".repeat(40));
        const small = client.broadcast("e".repeat(40));
        return [await outcome(large), {SENT}.length];
        """
    ) == [["rejected", "too_large", None], 1]


# --- The rate -----------------------------------------------------------------------------------------------------


def test_nothing_of_a_kind_is_sent_while_the_server_wants_none(run: RunScript) -> None:
    """After `rate_limited` for a broadcast the next ones are rejected here, with the time that is left; messages to
    rooms are not concerned, and after that time broadcasts are sent again."""
    assert run(
        f"""
        const client = connect(); await open();
        const first = client.broadcast(1);
        peer().answer("broadcast", {{ type: "error", code: "rate_limited", message: "Too many", retry_after: 2 }});
        await advance(0.5);
        const second = client.broadcast(2);
        client.room("a", 3);
        await advance(1.5);
        client.broadcast(4);
        return [await outcome(first), await outcome(second), {SENT}];
        """
    ) == [
        ["rejected", "rate_limited", 2],
        ["rejected", "rate_limited", 1.5],
        [["broadcast", 1], ["room", 3], ["broadcast", 4]],
    ]


def test_a_refusal_without_a_ref_finds_its_command(run: RunScript) -> None:
    """The server does not say which commands it has not read: they are those left when all others are answered."""
    assert run(
        f"""
        const client = connect(); await open();
        const promises = [1, 2, 3, 4].map((data) => client.broadcast(data));
        peer().say({UNREAD}); peer().say({UNREAD});
        const refs = peer().received.map(({{ ref }}) => ref);
        peer().say({{ type: "ack", ref: refs[2] }});
        const before = await Promise.all(promises.map(outcome));
        peer().say({{ type: "ack", ref: refs[0] }});
        return [before, await Promise.all(promises.map(outcome)), events("error").length];
        """
    ) == [
        ["pending", "pending", ["resolved", {}], "pending"],
        [["resolved", {}], ["rejected", "rate_limited", 0.5], ["resolved", {}], ["rejected", "rate_limited", 0.5]],
        0,
    ]


def test_a_timeout_counts_as_the_refused_command(run: RunScript) -> None:
    """When one of those that may have been refused times out, commands after it are not blamed for it."""
    assert run(
        f"""
        const client = connect({{ commandTimeoutSeconds: 3 }}); await open();
        const first = client.broadcast(1);
        await advance(1);
        const second = client.broadcast(2);
        peer().say({UNREAD});
        await advance(2.1);
        peer().answer("broadcast", {{ type: "ack" }});
        const third = client.broadcast(3);
        peer().answer("broadcast", {{ type: "ack" }});
        return Promise.all([first, second, third].map(outcome));
        """
    ) == [["rejected", "timeout", None], ["resolved", {}], ["resolved", {}]]


def test_a_queue_sends_again_what_was_refused(run: RunScript) -> None:
    """With `queueMax`, refused publications are sent again in their order: not before the server's wait is over, and
    spaced by it, wider if they are refused again."""
    assert run(
        f"""
        const client = connect({{ queueMax: 10 }}); await open();
        const promises = [1, 2, 3].map((data) => client.broadcast(data));
        for (let refused = 0; refused < 3; refused += 1) peer().say({UNREAD});
        peer().received.length = 0;
        const log = [];
        const look = async (seconds) => {{
          await advance(seconds);
          log.push(peer().received.splice(0).map(({{ data }}) => data));
        }};
        await look(0.45);
        await advance(0.1);
        peer().say({UNREAD});
        await look(0);
        await look(0.45);
        await advance(0.1);
        peer().answer("broadcast", {{ type: "ack" }});
        await look(0);
        await look(0.65);
        await look(0.1);
        await look(0.8);
        const outcomes = await Promise.all(promises.map(outcome));
        return [log, outcomes];
        """
    ) == [[[], [1], [], [1], [], [2], [3]], [["resolved", {}], "pending", "pending"]]


def test_a_queue_that_is_full_takes_nothing_back(run: RunScript) -> None:
    """A refused publication for which there is no place in the queue is rejected with the server's error."""
    assert run(
        f"""
        const client = connect({{ queueMax: 1 }}); await open();
        const promises = [client.broadcast(1), client.broadcast(2)];
        peer().say({UNREAD}); peer().say({UNREAD});
        return Promise.all(promises.map(outcome));
        """
    ) == ["pending", ["rejected", "rate_limited", 0.5]]


def test_joins_come_in_portions(run: RunScript) -> None:
    """A client that comes back with many rooms has twenty joins unanswered at most, and when the server refuses them
    it waits, and then asks for one after the other: a hundred refusals would end the connection."""
    assert run(
        f"""
        chance = 0;
        const client = connect();
        for (let room = 0; room < 50; room += 1) client.join(`r${{room}}`);
        await open();
        const counts = [peer().received.length];
        for (const {{ ref, room }} of [...peer().received]) peer().say({{ type: "joined", room, ref }});
        await settle();
        counts.push(peer().received.length);
        for (let refused = 0; refused < 20; refused += 1) peer().say({UNREAD});
        for (const seconds of [0.4, 0.2, 0.5, 0.5]) {{
          await advance(seconds);
          counts.push(peer().received.length);
        }}
        const rest = peer().received.slice(40).map(({{ room }}) => room);
        return [counts, rest, client.rooms.length, events("error").length];
        """
    ) == [[20, 40, 40, 41, 42, 43], ["r20", "r21", "r22"], 50, 0]


def test_leaving_is_not_forgotten(run: RunScript) -> None:
    """A `leave` that was refused for its rate is sent again, unless the room was joined again meanwhile; a refused
    `join` is not, when the room was left meanwhile."""
    assert run(
        f"""
        const client = connect(); await open();
        client.join("a"); client.join("b");
        for (const {{ ref, room }} of [...peer().received]) peer().say({{ type: "joined", room, ref }});
        await settle();
        peer().received.length = 0;
        const leaving = [client.leave("a"), client.leave("b")];
        const joins = [client.join("b"), client.join("c")];
        client.leave("c");
        const [leaveA, leaveB, joinB, joinC, leaveC] = peer().received.splice(0);
        peer().say({{ type: "joined", room: "b", ref: joinB.ref }});
        peer().say({{ type: "left", room: "c", ref: leaveC.ref }});
        for (let refused = 0; refused < 3; refused += 1) peer().say({UNREAD});
        await advance(5);
        const sent = {SENT};
        peer().answer("leave", {{ type: "left", room: "a" }});
        const outcomes = await Promise.all([leaving[0], ...joins].map(outcome));
        return [sent, outcomes.map(([how, what]) => (how === "resolved" ? how : what)), client.rooms];
        """
    ) == [[["leave", "a"]], ["resolved", "resolved", "left"], ["b"]]


def test_a_client_keeps_a_thousand_rooms(run: RunScript) -> None:
    """Rooms that wait for a connection have a bound, too: one more is rejected with "too_many_rooms"."""
    assert run(
        """
        const client = connect();
        for (let room = 0; room < 1000; room += 1) client.join(`r${room}`);
        const known = await outcome(client.join("r0"));
        return [known, await outcome(client.join("one more")), client.rooms.length];
        """
    ) == ["pending", ["rejected", "too_many_rooms", None], 1000]
