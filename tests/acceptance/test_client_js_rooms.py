"""client.js in a real browser: rooms that are kept, signs of life, and tokens. See test_client_js.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.browser import RunScript, client_js


@pytest.fixture(scope="module")
def run() -> Iterator[RunScript]:
    with client_js() as runs:
        yield runs


# --- Rooms --------------------------------------------------------------------------------------------------------


def test_rooms_are_joined_again(run: RunScript) -> None:
    """After a reconnection the client joins its rooms again, with their `members` flag, and then tells of the gap."""
    results = run(
        """
        chance = 0;
        const client = connect(); await open();
        const joins = [client.join("a", { members: true }), client.join("b"), client.join("gone")];
        peer().received.forEach(({ ref, room }) => peer().say({ type: "joined", room, ref }));
        await Promise.all(joins);
        client.leave("gone");
        peer().end(1006); await advance(0.1); await open();
        const rejoined = peer().commands("join").map(({ ref, ...command }) => command);
        const before = events("missed").length;
        peer().received.forEach(({ ref, room }) => peer().say({ type: "joined", room, ref }));
        await settle();
        const again = events("joined").map(({ room, again }) => [room, again]);
        return [rejoined, before, events("missed"), again, client.rooms];
        """
    )
    assert results == [
        [{"type": "join", "room": "a", "members": True}, {"type": "join", "room": "b"}],
        0,
        [{"rooms": None, "cause": "reconnected"}],
        [["a", False], ["b", False], ["gone", False], ["a", True], ["b", True]],
        ["a", "b"],
    ]


def test_the_first_connection_misses_nothing(run: RunScript) -> None:
    """No `missed` comes from connecting for the first time, however many attempts it took."""
    assert (
        run("chance = 0; connect(); peer().end(1006); await advance(0.1); await open(); return events('missed')") == []
    )


def test_a_join_waits_for_the_connection(run: RunScript) -> None:
    """join() before there is a connection, or across a lost one, is kept and resolves with the first answer."""
    assert run(
        """
        chance = 0;
        const client = connect();
        const joining = client.join("a", { members: true });
        await open();
        peer().end(1006); await advance(0.1); await open();
        const before = await outcome(joining);
        peer().answer("join", { type: "joined", room: "a", members: [{ id: "c2", user: null }] });
        return [before, await outcome(joining)];
        """
    ) == ["pending", ["resolved", {"room": "a", "members": [{"id": "c2", "user": None}]}]]


def test_a_join_outlives_a_temporary_failure(run: RunScript) -> None:
    """A join answered `unavailable` or `rate_limited` is tried again, not before `retry_after`; late is a gap."""
    assert run(
        """
        chance = 0;
        const client = connect(); await open();
        const joining = client.join("a");
        peer().answer("join", { type: "error", code: "rate_limited", message: "Wait", retry_after: 3 });
        await advance(2.9);
        const early = peer().commands("join").length;
        await advance(0.2);
        peer().answer("join", { type: "joined", room: "a" });
        const first = [early, peer().commands("join").length, await outcome(joining), events("missed").length];
        peer().end(1006); await advance(0.1); await open();
        peer().answer("join", { type: "error", code: "unavailable", message: "Away" });
        await advance(1.1);
        peer().answer("join", { type: "joined", room: "a" });
        await settle();
        return [first, events("missed")];
        """
    ) == [
        [1, 2, ["resolved", {"room": "a"}], 0],
        [{"rooms": None, "cause": "reconnected"}, {"rooms": ["a"], "cause": "reconnected"}],
    ]


def test_a_refused_room_is_given_up(run: RunScript) -> None:
    """A join refused for good rejects with the server's code and is not tried again; a refused rejoin is an event."""
    assert run(
        """
        chance = 0;
        const client = connect(); await open();
        const refused = client.join("*");
        peer().answer("join", { type: "error", code: "bad_room", message: "No" });
        const first = [await outcome(refused), client.rooms, events("error").length];
        client.join("a");
        peer().answer("join", { type: "joined", room: "a" });
        await settle();
        peer().end(1006); await advance(0.1); await open();
        peer().answer("join", { type: "error", code: "forbidden", message: "Not any more" });
        await settle();
        return [first, client.rooms, events("error").map(({ code }) => code)];
        """
    ) == [[["rejected", "bad_room", None], [], 0], [], ["forbidden"]]


def test_leaving_without_a_connection_is_done_at_once(run: RunScript) -> None:
    """leave() while disconnected resolves, rejects a join that still waited, and the room is not joined again."""
    assert run(
        """
        chance = 0;
        const client = connect();
        const joining = client.join("a");
        const leaving = client.leave("a");
        await open();
        return [await outcome(joining), (await outcome(leaving))[0], peer().commands("join").length];
        """
    ) == [["rejected", "left", None], "resolved", 0]


def test_a_client_that_was_removed_stays_out(run: RunScript) -> None:
    """A `left` that nobody asked for is an event; the room is not joined again. One that answers a
    command too late is none."""
    assert run(
        """
        chance = 0;
        const client = connect(); await open();
        client.join("a"); client.join("b");
        peer().received.forEach(({ ref, room }) => peer().say({ type: "joined", room, ref }));
        await settle();
        peer().say({ type: "left", room: "a" });
        peer().say({ type: "left", room: "b", ref: 999 });
        peer().end(1006); await advance(0.1);
        client.join("c");
        await open();
        const joined = peer().commands("join").map(({ room }) => room);
        return [events("left"), joined, client.rooms];
        """
    ) == [[{"room": "a"}], ["b", "c"], ["b", "c"]]


# --- Signs of life ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("idle_seconds", "latest"), [(None, 25), (300, 25), (20, 10)])
def test_it_pings_before_the_idle_timeout(run: RunScript, idle_seconds: int | None, latest: int) -> None:
    """A quiet client pings every 25 seconds at most, sooner when the server's idle timeout is short."""
    limits = "{}" if idle_seconds is None else f"{{ idle_timeout_seconds: {idle_seconds} }}"
    pings = run(
        f"""
        chance = 1;
        const client = connect(); await open({{ limits: {limits} }});
        await advance({latest} - 0.1);
        const early = peer().commands("ping").length;
        for (let round = 0; round < 3; round += 1) {{
          await advance(0.2);
          peer().answer("ping", {{ type: "pong" }});
          await advance({latest} - 0.2);
        }}
        return [early, peer().commands("ping").length, client.state];
        """
    )
    assert pings == [0, 3, "open"]


def test_a_dead_peer_is_left(run: RunScript) -> None:
    """A server that says nothing within ten seconds after a ping is given up; any message counts as a sign of life."""
    assert run(
        """
        chance = 1;
        const client = connect(); await open();
        await advance(26);
        peer().say({ type: "broadcast", from: "c2", data: 1 });
        await advance(10);
        const alive = client.state;
        await advance(25);
        const lost = events("state").find(({ state }) => state === "waiting");
        return [alive, lost.reason, Peer.all[0].closedWith !== null];
        """
    ) == ["open", "The server does not answer", True]


def test_ping_measures_the_way(run: RunScript) -> None:
    """ping() resolves to the milliseconds between the command and its answer."""
    assert (
        run(
            """
        const client = connect(); await open();
        const measuring = client.ping();
        await advance(0.04);
        peer().answer("ping", { type: "pong" });
        return Math.round(await measuring);
        """
        )
        == 40
    )


# --- Identity -----------------------------------------------------------------------------------------------------


def test_a_token_is_sent_before_anything_else(run: RunScript) -> None:
    """With `token`, each connection authenticates first and opens for commands after the answer, with a fresh token."""
    assert run(
        """
        chance = 0;
        let made = 0;
        const client = connect({ token: async () => `t${++made}` });
        client.join("a");
        await open();
        const before = [client.state, peer().received.map(({ type, token }) => token ?? type)];
        peer().answer("authenticate", { type: "authenticated", user: "7", expires_in: 3600 });
        await settle();
        const after = [client.state, client.user, peer().received.map(({ type }) => type)];
        peer().end(1006); await advance(0.1); await open();
        return [before, after, peer().received.map(({ token }) => token)];
        """
    ) == [["connecting", ["t1"]], ["open", "7", ["authenticate", "join"]], ["t2"]]


def test_a_refused_token_ends_the_client(run: RunScript) -> None:
    """`unauthorized` is an error event and the state "closed": the same token would only be refused again."""
    assert run(
        """
        const client = connect({ token: "old" }); await open();
        peer().answer("authenticate", { type: "error", code: "unauthorized", message: "Expired" });
        await advance(60);
        return [client.state, events("error").map(({ code }) => code), Peer.all.length];
        """
    ) == ["closed", ["unauthorized"], 1]


def test_a_token_is_renewed_before_it_expires(run: RunScript) -> None:
    """A token function is asked again at four fifths of `expires_in`, on the same connection."""
    assert run(
        """
        let made = 0;
        const client = connect({ token: () => `t${++made}` }); await open();
        peer().answer("authenticate", { type: "authenticated", user: "7", expires_in: 20 });
        await advance(15.9);
        const early = peer().commands("authenticate").length;
        await advance(0.2);
        return [early, peer().commands("authenticate").map(({ token }) => token), client.state];
        """
    ) == [1, ["t1", "t2"], "open"]
