"""client.js against real nodes behind nginx, in Node.js and in Chromium: what happens to connections in earnest.

What takes time is tried here once; the rules themselves, with all their times, are in test_client_js.py and its
neighbours, where time is moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from realtime.auth import issue_token
from tests.support.browser import chromium
from tests.support.client_js import ChromiumPage, Runtime, node_js, page_of
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer

USER = "42"
RECONNECTED = "it.cause === 'reconnected'"
# The page comes from one node and connects to nginx, which is another origin.
ANY_ORIGIN = {"REALTIME_ALLOWED_ORIGINS": "*"}
IDLE_SECONDS = 4


@pytest.fixture(scope="module")
def cluster(redis_server: RedisServer) -> Iterator[Cluster]:
    with Cluster(redis_server.url, nodes=2, nginx=True, environment=ANY_ORIGIN) as running:
        yield running


@pytest.fixture(scope="module")
def small(redis_server: RedisServer) -> Iterator[DaphneNode]:
    """A node with a place for one client, who must not be silent for long."""
    limits = {
        "REALTIME_CONNECTIONS_MAX": "1",
        "REALTIME_EVICT_INACTIVE_SECONDS": "0",
        "REALTIME_IDLE_TIMEOUT_SECONDS": str(IDLE_SECONDS),
    }
    with Cluster(redis_server.url, nodes=1, environment={**ANY_ORIGIN, **limits}) as running:
        yield running.nodes[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(params=["Node.js", "Chromium"])
def runtime(request: pytest.FixtureRequest, cluster: Cluster, browser: Browser) -> Iterator[Runtime]:
    with node_js() if request.param == "Node.js" else page_of(browser, cluster.nodes[0].http_url) as running:
        yield running


@pytest.fixture
def in_node_js() -> Iterator[Runtime]:
    with node_js() as running:
        yield running


def nginx_url(cluster: Cluster) -> str:
    assert cluster.nginx is not None
    return json.dumps(cluster.nginx.url)


def open_client(runtime: Runtime, url: str, options: str = "{}") -> str:
    """Start `globalThis.client`; its id when it is open."""
    body = f"globalThis.client = start({url}, {options}); await until(() => client.state === 'open'); return client.id;"
    return str(runtime.run(body))


def node_of(cluster: Cluster, connection: str) -> DaphneNode:
    return next(node for node in cluster.nodes if connection.startswith(node.name))


def test_each_command_and_event(runtime: Runtime, cluster: Cluster) -> None:
    """Every command's promise gets its answer or the server's error, and what is published is an event at the other
    client, on another node or the same."""
    results = runtime.run(
        f"""
        const [ann, ben] = [start({nginx_url(cluster)}), start({nginx_url(cluster)})];
        const refused = (promise) => promise.then(() => null, ({{ code }}) => code);
        await ben.join("lobby");
        const {{ members }} = await ann.join("lobby", {{ members: true }});
        const acks = [await ann.room("lobby", 1), await ann.broadcast(2), await ann.private(ben.id, {{ three: 3 }})];
        await ann.room("lobby", "echo", {{ echo: true }});
        const atBen = () => ["room", "broadcast", "private"].flatMap((event) => heard(ben, event));
        await until(() => atBen().length === 4 && heard(ann, "room").length === 1);
        await ben.leave("lobby");
        await until(() => heard(ann, "members").some(({{ left }}) => left.some(({{ id }}) => id === ben.id)));
        const codes = [];
        const doomed = [ben.room("lobby", 1), ben.private("n.x", 1), ben.join("")];
        for (const each of doomed) codes.push(await refused(each));
        const result = {{
          acks, codes, isFast: (await ann.ping()) >= 0, senders: atBen().every(({{ from }}) => from === ann.id),
          members: members.map(({{ id }}) => id).sort().join() === [ann.id, ben.id].sort().join(),
          data: atBen().map(({{ data }}) => data),
          missed: [...heard(ann, "missed"), ...heard(ben, "missed")],
        }};
        ann.close(); ben.close();
        return result;
        """
    )
    assert results == {
        "acks": [{}, {}, {}],
        "codes": ["not_joined", "unknown_recipient", "bad_room"],
        "isFast": True,
        "senders": True,
        "members": True,
        "data": [1, "echo", 2, {"three": 3}],
        "missed": [],
    }


def test_after_the_death_of_its_node(runtime: Runtime, cluster: Cluster) -> None:
    """When its node is killed a client is on the other one, in its rooms with their members, has been told that it
    missed something, and its queue is sent."""
    before = open_client(runtime, nginx_url(cluster), "{ queueMax: 10 }")
    runtime.run("await client.join('lobby', { members: true }); await client.join('quiet')")
    killed = node_of(cluster, before)
    killed.kill()
    try:
        result = runtime.run(
            f"""
            const unsent = () => client.state === "waiting" || client.state === "connecting";
            await until(unsent);
            const queued = client.room("lobby", "queued", {{ echo: true }});
            await until(() => heard(client, "missed").some((it) => {RECONNECTED}));
            await queued;
            await until(() => heard(client, "room").length > 0);
            const again = heard(client, "joined").filter((it) => it.again);
            return {{
              id: client.id,
              rooms: again.map(({{ room }}) => room).sort(),
              members: again.find((it) => it.members).members,
              data: heard(client, "room").map((it) => it.data),
              missed: heard(client, "missed"),
              end: heard(client, "state").find(({{ state }}) => state === "waiting").code,
            }};
            """
        )
        assert node_of(cluster, result["id"]) is not killed
        assert {"id": result["id"], "user": None} in result["members"]
        assert result["rooms"] == ["lobby", "quiet"]
        assert result["missed"] == [{"rooms": None, "cause": "reconnected"}]
        assert (result["data"], result["end"]) == (["queued"], 1006)
    finally:
        runtime.run("client.close()")
        killed.start()


def test_a_node_that_drains(in_node_js: Runtime, cluster: Cluster) -> None:
    """A node that stops says 1012, and the client goes to the other one soon."""
    before = open_client(in_node_js, nginx_url(cluster))
    stopped = node_of(cluster, before)
    stopped.stop()
    try:
        result = in_node_js.run(
            f"""
            await until(() => heard(client, "missed").some((it) => {RECONNECTED}));
            const end = heard(client, "state").find(({{ state }}) => state === "waiting");
            return [end.code, end.reason, end.delaySeconds <= 2, client.id];
            """
        )
        assert result[:3] == [1012, "Service restart", True]
        assert node_of(cluster, result[3]) is not stopped
    finally:
        in_node_js.run("client.close()")
        stopped.start()


def test_after_4001_it_signs_in_with_a_new_token(in_node_js: Runtime, cluster: Cluster) -> None:
    """A client whose credential is taken away asks for another one, and is the same user again."""
    tokens = json.dumps([issue_token(USER, seconds=seconds) for seconds in (3600, 3601)])
    in_node_js.run(f"globalThis.tokens = {tokens}")
    connection = open_client(in_node_js, nginx_url(cluster), "{ token: () => tokens.shift() ?? null }")
    cluster.manage("disconnect", connection, "--code", "4001", "--reason", "Unauthorized")
    result = in_node_js.run(
        f"""
        await until(() => client.state === "open" && client.id !== {connection!r});
        const user = client.user;
        client.close();
        return [user, tokens.length, heard(client, "state").find(({{ state }}) => state === "waiting").code];
        """
    )
    assert result == [USER, 0, 4001]


def test_refused_tokens_end_the_client(runtime: Runtime, cluster: Cluster) -> None:
    """A function whose tokens the server refuses is asked twice."""
    result = runtime.run(
        f"""
        let made = 0;
        const client = start({nginx_url(cluster)}, {{ token: async () => `no token ${{++made}}` }});
        await until(() => client.state === "closed");
        return [made, heard(client, "error").map(({{ code }}) => code), heard(client, "state").at(-1).code];
        """
    )
    assert result == [2, ["unauthorized", "unauthorized"], 4001]


def test_a_token_is_renewed_before_it_ends(in_node_js: Runtime, cluster: Cluster) -> None:
    """By the `expires_in` of the server the function is asked in time, on the same connection."""
    tokens = json.dumps([issue_token(USER, seconds=seconds) for seconds in (3, 3600)])
    in_node_js.run(f"globalThis.tokens = {tokens}")
    ask = "{ token: () => { queueMicrotask(happened); return tokens.shift(); } }"
    before = open_client(in_node_js, nginx_url(cluster), ask)
    after = in_node_js.run(
        """
        await until(() => tokens.length === 0);
        await client.ping(); // replies keep their order: the token before it is accepted
        return [client.id, client.user, heard(client, "error").length, heard(client, "missed").length];
        """
    )
    assert after == [before, USER, 0, 0]


def test_a_token_in_the_handshake(runtime: Runtime, cluster: Cluster) -> None:
    """The server knows the user in its welcome, and the client learns from it when to renew the token; one that is no
    good ends the client after it has asked for another one."""
    tokens = json.dumps([issue_token(USER, seconds=seconds) for seconds in (3, 3600)])
    result = runtime.run(
        f"""
        const tokens = {tokens};
        const token = () => {{ queueMicrotask(happened); return tokens.shift() ?? `no-token-${{Math.random()}}`; }};
        const client = start({nginx_url(cluster)}, {{ token, tokenInHandshake: true }});
        await until(() => client.state === "open");
        const user = client.user;
        await until(() => tokens.length === 0);
        await client.ping(); // replies keep their order: the token before it is accepted
        const states = heard(client, "state").length;
        client.close();
        const refused = start({nginx_url(cluster)}, {{ token, tokenInHandshake: true }});
        await until(() => refused.state === "closed");
        const ends = heard(refused, "state").filter(({{ code }}) => code);
        return [user, states, heard(client, "error").length, ends.map(({{ state, code }}) => [state, code])];
        """
    )
    assert result == [USER, 1, 0, [["waiting", 4001], ["closed", 4001]]]


def test_a_node_that_limits_rates(in_node_js: Runtime, redis_server: RedisServer) -> None:
    """A client with a queue gets everything through, once, without being closed; one without is told of each command
    that it was refused, and of how long to wait. Joins are all done in the end."""
    rates = {"COMMANDS_PER_SECOND": "10", "COMMANDS_BURST": "20", "JOINS_PER_SECOND": "10", "JOINS_BURST": "10"}
    environment = {**ANY_ORIGIN, **{f"REALTIME_{name}": value for name, value in rates.items()}}
    with Cluster(redis_server.url, nodes=1, environment=environment) as limited:
        result = in_node_js.run(
            f"""
            const url = {json.dumps(limited.nodes[0].url)};
            const patient = start(url, {{ queueMax: 100, queueSeconds: 60 }});
            await patient.join("a");
            const texts = Array.from({{ length: 40 }}, (_, number) => number);
            await Promise.all(texts.map((text) => patient.room("a", text, {{ echo: true }})));
            await until(() => heard(patient, "room").length === texts.length);
            const arrived = heard(patient, "room").map(({{ data }}) => data).sort((one, other) => one - other);

            const hasty = start(url);
            await hasty.join("a");
            const settled = await Promise.allSettled(texts.map((text) => hasty.room("a", text)));
            const refused = settled.flatMap(({{ reason }}) => reason ?? []);
            const told = refused.every((error) => error.code === "rate_limited" && error.retryAfterSeconds > 0);

            const social = start(url);
            await Promise.all(texts.map((text) => social.join(`r${{text}}`)));
            const all = [patient, hasty, social];
            const states = all.flatMap((client) => heard(client, "state").map(({{ state }}) => state));
            return [arrived.join() === texts.join(), refused.length > 0, told, social.rooms.length, states];
            """
        )
    assert result == [True, True, True, 40, ["open", "open", "open"]]


def test_an_evicted_client_stays_away(runtime: Runtime, small: DaphneNode) -> None:
    """A full node evicts the client that was silent longest; it waits for five seconds or more."""
    result = runtime.run(
        f"""
        const first = start({json.dumps(small.url)});
        await until(() => first.state === "open");
        const second = start({json.dumps(small.url)});
        await until(() => first.state === "waiting" && second.state === "open");
        const {{ code, reason, delaySeconds }} = heard(first, "state").at(-1);
        first.close(); second.close();
        return [code, reason, delaySeconds >= 5 && delaySeconds <= 10];
        """
    )
    assert result == [1001, "Server overloaded", True]


@pytest.mark.slow
def test_a_quiet_client_stays(in_node_js: Runtime, small: DaphneNode) -> None:
    """A client that only listens is not closed for its silence, because it pings in time."""
    result = in_node_js.run(
        f"""
        let pings = 0;
        class Counting extends TestWebSocket {{
          send(text) {{
            super.send(text);
            if (JSON.parse(text).type === "ping") {{ pings += 1; queueMicrotask(happened); }}
          }}
        }}
        const client = start({json.dumps(small.url)}, {{ WebSocket: Counting }});
        const began = performance.now();
        await until(() => pings >= 3);
        await client.ping();
        const seconds = (performance.now() - began) / 1000;
        const states = heard(client, "state").map(({{ state }}) => state);
        client.close();
        return [states, seconds > {IDLE_SECONDS}];
        """
    )
    assert result == [["open"], True]


def test_a_client_that_slept_comes_back(in_node_js: Runtime, small: DaphneNode) -> None:
    """A page whose timers stood still is closed for its silence, and is back without a wait of its own."""
    result = in_node_js.run(
        f"""
        class Mute extends TestWebSocket {{
          send(text) {{ if (JSON.parse(text).type !== "ping") super.send(text); }}
        }}
        const client = start({json.dumps(small.url)}, {{ WebSocket: Mute }});
        await until(() => heard(client, "missed").some((it) => {RECONNECTED}));
        const {{ code, reason, delaySeconds }} = heard(client, "state").find(({{ state }}) => state === "waiting");
        client.close();
        return [code, reason, delaySeconds <= 0.5];
        """
    )
    assert result == [1001, "Connection timeout", True]


def test_without_a_network(browser: Browser, cluster: Cluster) -> None:
    """While Chromium is offline a lost client makes no attempt; it is back when Chromium is online."""
    node = cluster.nodes[0]
    with page_of(browser, node.http_url.replace("127.0.0.1", "app.localhost")) as page:
        open_client(page, json.dumps(node.url.replace("127.0.0.1", "app.localhost")))
        page.run("await client.join('lobby')")
        page.page.context.set_offline(True)
        lost = lose(page, cluster)
        assert (lost["delaySeconds"], lost["isOffline"]) == (None, True)
        page.page.context.set_offline(False)
        result = page.run(
            f"""
            await until(() => heard(client, "missed").some((it) => {RECONNECTED}));
            return [client.rooms, heard(client, "state").map(({{ state }}) => state)];
            """
        )
        assert result == [["lobby"], ["open", "waiting", "connecting", "open"]]


def lose(page: ChromiumPage, cluster: Cluster) -> dict[str, object]:
    """Let the server end the connection, unless it is lost already; the state of the client then."""
    cluster.manage("disconnect", page.run("return client.id"), "--code", "1012", "--reason", "Service restart")
    found: dict[str, object] = page.run(
        "await until(() => client.state === 'waiting'); return heard(client, 'state').at(-1)"
    )
    return found
