"""client.js in a real browser: when it connects again, and with which token. See test_client_js.py."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from tests.support.browser import RunScript, client_js

# Lets the browser say that it is offline or online: `network(false)`.
NETWORK = """
let isOnline = true;
Object.defineProperty(navigator, "onLine", { get: () => isOnline, configurable: true });
const network = (is) => { isOnline = is; dispatchEvent(new Event(is ? "online" : "offline")); };
"""
STATES = "events('state').map(({ state, delaySeconds, isOffline }) => [state, delaySeconds ?? null, isOffline ?? null])"


@pytest.fixture(scope="module")
def run() -> Iterator[RunScript]:
    with client_js() as runs:
        yield runs


# --- How long it waits --------------------------------------------------------------------------------------------


def test_the_wait_is_a_function_of_what_happened(run: RunScript) -> None:
    """reconnectSeconds() is the close code's wait and a random part of a ceiling that doubles up to its highest: over
    all chances the waits are spread evenly from the least to the most."""
    chances = [index / 100 for index in range(101)]
    cases = [
        ({"failures": 0}, 0, 0.5),
        ({"failures": 1}, 0, 1),
        ({"failures": 5}, 0, 16),
        ({"failures": 6}, 0, 20),
        ({"failures": 5000}, 0, 20),
        ({"failures": 2, "backoffMinSeconds": 1, "backoffMaxSeconds": 3}, 0, 3),
        ({"code": 1012, "reason": "Service restart"}, 0, 2),
        ({"code": 1012, "reason": "Service restart", "failures": 3}, 0, 4),
        ({"code": 1001, "reason": "Server overloaded"}, 5, 10),
        ({"code": 1001, "reason": "Server overloaded", "failures": 9}, 5, 25),
        ({"code": 1001, "reason": "Going away"}, 0, 0.5),
    ]
    waits = run(
        f"const chances = {chances}; const cases = {[case for case, _, _ in cases]};"
        "return cases.map((each) => chances.map((chance) => RealtimeClient.reconnectSeconds({ ...each, chance })));"
    )
    for (case, least, most), found in zip(cases, waits, strict=True):
        even = [least + chance * (most - least) for chance in chances]
        assert all(math.isclose(*pair, abs_tol=1e-9) for pair in zip(found, even, strict=True)), case


def test_a_client_that_is_not_wanted_comes_back_once(run: RunScript) -> None:
    """Closed with 1008 it waits and tries once more; the second time in a row is the end, unless a connection between
    them lasted."""
    assert run(
        """
        chance = 0;
        const client = connect();
        const states = [];
        const refuse = async (openSeconds) => {
          await open(); await advance(openSeconds);
          peer().end(1008, "Policy violation");
          states.push(client.state);
          await advance(21);
        };
        await refuse(1); await refuse(11); await refuse(1);
        client.connect();
        await refuse(1); await refuse(1);
        return [states, Peer.all.length];
        """
    ) == [["waiting", "waiting", "closed", "waiting", "closed"], 5]


# --- Without a network --------------------------------------------------------------------------------------------


def test_offline_nothing_is_tried(run: RunScript) -> None:
    """While the browser is offline a lost client waits without an attempt, and connects at once when it is online."""
    assert run(
        NETWORK
        + f"""
        chance = 1;
        const client = connect(); await open();
        isOnline = false;
        peer().end(1006);
        await advance(3600);
        const attempts = Peer.all.length;
        network(true);
        const hurried = Peer.all.length;
        peer().end(1006);
        return [attempts, hurried, {STATES}];
        """
    ) == [
        1,
        2,
        [
            ["open", None, None],
            ["waiting", None, True],
            ["connecting", None, None],
            ["waiting", 1, False],
        ],
    ]


def test_the_network_goes_during_a_wait(run: RunScript) -> None:
    """`offline` stops the wait for an attempt that could only fail; being looked at does not start one."""
    assert run(
        NETWORK
        + f"""
        chance = 1;
        const client = connect(); await open();
        peer().end(1006);
        network(false);
        const told = events("state").at(-1).isOffline;
        network(false);
        document.dispatchEvent(new Event("visibilitychange"));
        dispatchEvent(new Event("visibilitychange"));
        await advance(60);
        return [told, Peer.all.length, {STATES}];
        """
    ) == [True, 1, [["open", None, None], ["waiting", 0.5, False], ["waiting", None, True]]]


def test_back_online_the_wait_that_the_server_asked_for_goes_on(run: RunScript) -> None:
    """What is left of the server's wait when the network is back is waited for."""
    assert run(
        NETWORK
        + """
        chance = 0;
        const client = connect(); await open();
        isOnline = false;
        peer().end(1013, "Try again later");
        await advance(2);
        network(true);
        const left = events("state").at(-1).delaySeconds;
        await advance(2.9);
        const early = Peer.all.length;
        await advance(0.2);
        return [left, early, Peer.all.length];
        """
    ) == [3, 1, 2]


def test_going_offline_is_found_out(run: RunScript) -> None:
    """An open client asks its server whether it is there; a connection that survives is kept."""
    assert run(
        NETWORK
        + """
        const client = connect(); await open();
        network(false);
        peer().answer("ping", { type: "pong" });
        await advance(11);
        const kept = client.state;
        network(true);
        await advance(11);
        return [kept, client.state, events("state").at(-2).reason];
        """
    ) == ["open", "connecting", "The server does not answer"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_this_machine_needs_no_network(run: RunScript, host: str) -> None:
    """A server on the same machine is tried although the browser is offline."""
    assert (
        run(
            NETWORK
            + f"""
            chance = 0;
            isOnline = false;
            connect({{}}, "ws://{host}:8000/ws/");
            peer().end(1006); await advance(0.1);
            return Peer.all.length;
            """
        )
        == 2
    )


# --- With which token ---------------------------------------------------------------------------------------------

REFUSED = '{ type: "error", code: "unauthorized", message: "Expired" }'
TOKENS = "let made = 0; const token = () => `t${++made}`;"
ACCEPT = 'peer().answer("authenticate", { type: "authenticated", user: "7", expires_in: 3600 }); await settle();'


def test_after_4001_it_comes_with_a_new_token(run: RunScript) -> None:
    """A server that does not accept the credential any more gets a new one, if there is a function that has one."""
    assert run(
        f"""
        chance = 0; {TOKENS}
        const client = connect({{ token }}); await open(); {ACCEPT}
        peer().end(4001, "Unauthorized");
        const state = client.state;
        await advance(0.1); await open(); {ACCEPT}
        return [state, client.state, client.user, peer().received[0].token];
        """
    ) == ["waiting", "open", "7", "t2"]


@pytest.mark.parametrize("refuse", [f'peer().answer("authenticate", {REFUSED})', 'peer().end(4001, "Unauthorized")'])
def test_a_second_token_that_is_refused_is_the_last(run: RunScript, refuse: str) -> None:
    """Two tokens refused in a row, in an answer or with 4001, end the client; a connection between them must last."""
    assert run(
        f"""
        chance = 0; {TOKENS}
        const client = connect({{ token }});
        const states = [];
        const refuse = async () => {{
          await advance(0.1); await open();
          {refuse}; await settle();
          states.push(client.state);
        }};
        await refuse();
        await advance(0.1); await open(); {ACCEPT}
        await advance(11);
        peer().end(1006);
        await refuse(); await refuse();
        await advance(60);
        return [states, made, Peer.all.length];
        """
    ) == [["waiting", "waiting", "closed"], 4, 4]


def test_the_same_token_is_not_refused_twice(run: RunScript) -> None:
    """A function that has no other token than the refused one ends the client without asking the server again;
    connect() lets it try again."""
    assert run(
        f"""
        chance = 0;
        const client = connect({{ token: async () => "old" }}); await open();
        peer().answer("authenticate", {REFUSED});
        await advance(1);
        const first = [client.state, Peer.all.length, events("error").map(({{ code }}) => code)];
        client.connect(); await open(); {ACCEPT}
        return [first, client.state];
        """
    ) == [["closed", 1, ["unauthorized"]], "open"]


def test_no_token_any_more_is_the_end(run: RunScript) -> None:
    """A function that returns null says that nobody is logged in: the client closes, without a connection."""
    assert run(
        f"""
        chance = 0;
        let token = "t";
        const client = connect({{ token: () => token }}); await open(); {ACCEPT}
        token = null;
        peer().end(1006); await advance(0.1);
        const {{ state, code, reason }} = events("state").at(-1);
        return [state, code, reason, Peer.all.length];
        """
    ) == ["closed", 4001, "There is no token any more", 1]


def test_a_token_that_cannot_be_had_now_is_asked_for_again(run: RunScript) -> None:
    """A function that fails, or takes too long, is an error event or none, and an attempt that counts as failed."""
    assert run(
        f"""
        chance = 1;
        const answers = [() => {{ throw new Error("No network"); }}, () => new Promise(() => {{}}), () => "t"];
        const client = connect({{ token: () => answers.shift()(), connectTimeoutSeconds: 4 }});
        await advance(0.6);
        const error = events("error")[0];
        await advance(4.1);
        const waiting = events("state").at(-1);
        await advance(1);
        await open(); {ACCEPT}
        return [error.code, error.message, error.cause.message, waiting.reason, waiting.delaySeconds, client.state];
        """
    ) == ["no_token", "No token could be had: No network", "No network", "No token in time", 1, "open"]


@pytest.mark.parametrize("code", ["unauthorized", "unavailable"])
def test_a_listener_may_give_up(run: RunScript, code: str) -> None:
    """close() in a listener of errors is final, whatever the client would have done next."""
    assert run(
        f"""
        chance = 0; {TOKENS}
        const client = connect({{ token }});
        client.on("error", () => client.close());
        await open();
        peer().answer("authenticate", {{ type: "error", code: {code!r}, message: "No" }});
        await advance(60);
        const first = [client.state, Peer.all.length];
        client.connect(); await open();
        peer().answer("authenticate", {{ type: "authenticated", user: "7", expires_in: 20 }});
        await advance(16.1);
        peer().answer("authenticate", {{ type: "error", code: {code!r}, message: "No" }});
        await advance(60);
        return [first, client.state, Peer.all.length, made];
        """
    ) == [["closed", 1], "closed", 2, 3]


def test_a_token_that_no_handshake_can_carry(run: RunScript) -> None:
    """A text that is no subprotocol is an error event, and an attempt that counts as failed."""
    assert run(
        """
        const client = new RealtimeClient("/ws/", { token: async () => "two words", tokenInHandshake: true });
        const errors = [];
        client.on("error", (error) => errors.push(error));
        await settle();
        return [client.state, errors.map(({ code, cause }) => [code, cause.name])];
        """
    ) == ["waiting", [["no_token", "SyntaxError"]]]


def test_a_token_may_go_with_the_handshake(run: RunScript) -> None:
    """With `tokenInHandshake` it is a subprotocol, and the client is open with the welcome; it asks how long the token
    is good behind that, and renews it in time. A server that did not take it gets it in a message."""
    assert run(
        f"""
        chance = 0; {TOKENS}
        const client = connect({{ token, tokenInHandshake: true }}); await open({{ user: "7" }});
        const first = [peer().protocols, client.state, client.user];
        peer().answer("authenticate", {{ type: "authenticated", user: "7", expires_in: 20 }});
        await settle();
        await advance(16.1);
        const tokens = peer().commands("authenticate").map(({{ token }}) => token);
        peer().end(1006); await advance(0.1); await open();
        return [first, tokens, client.state, peer().protocols, peer().commands("authenticate").length];
        """
    ) == [
        [["realtime", "token.t1"], "open", "7"],
        ["t1", "t2"],
        "connecting",
        ["realtime", "token.t3"],
        1,
    ]


def test_a_token_that_cannot_be_renewed_now_is_tried_again(run: RunScript) -> None:
    """A failure for a moment leaves the connection as it is; the renewal is tried again some seconds later."""
    assert run(
        f"""
        chance = 0; {TOKENS}
        const client = connect({{ token }}); await open();
        peer().answer("authenticate", {{ type: "authenticated", user: "7", expires_in: 20 }});
        await advance(16.1);
        peer().answer("authenticate", {{ type: "error", code: "unavailable", message: "Later" }});
        await advance(5.1);
        const tokens = peer().commands("authenticate").map(({{ token }}) => token);
        return [tokens, client.state, events("error").map(({{ code }}) => code)];
        """
    ) == [["t1", "t2", "t3"], "open", ["unavailable"]]
