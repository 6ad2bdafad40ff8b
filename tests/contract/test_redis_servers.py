"""Ways to a Redis: credentials, sockets, TLS, Sentinels, and what of them is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from devtools.ports import free_port
from realtime.exceptions import BackplaneUnavailable
from realtime.layers.redis import RedisChannelLayer
from tests.contract.kinds import assert_works, node_channel
from tests.contract.recorder import Recorder
from tests.support.certificates import make_certificate
from tests.support.servers import RedisServer


async def test_password_and_database() -> None:
    """A URL with password and database number works; a wrong password is BackplaneUnavailable and says why."""
    with RedisServer(password="s3cret") as server:
        await assert_works(RedisChannelLayer([f"redis://:s3cret@127.0.0.1:{server.port}/3"]))
        wrong = RedisChannelLayer([f"redis://:wrong@127.0.0.1:{server.port}/0"])
        with pytest.raises(BackplaneUnavailable, match="AUTH"):
            await wrong.group_send("chat", {"type": "t"})
        await wrong.close()


async def test_an_acl_user_of_our_own_prefix() -> None:
    """A user that may only publish, subscribe and say who it is, on our channels, is enough."""
    rights = "+publish +subscribe +unsubscribe +ping +select &shop*"
    with RedisServer("--user", *f"rt on >s3cret resetchannels -@all {rights}".split()) as server:
        url = f"redis://rt:s3cret@127.0.0.1:{server.port}/0"
        await assert_works(RedisChannelLayer([url], "shop"))
        other = RedisChannelLayer([url], "other")
        with pytest.raises(BackplaneUnavailable, match=r"NOPERM|permissions"):
            await other.group_send("chat", {"type": "t"})
        await other.close()


async def test_a_unix_socket(tmp_path: Path) -> None:
    """unix:// URLs work."""
    path = tmp_path / "redis.sock"
    with RedisServer("--unixsocket", str(path)):
        await assert_works(RedisChannelLayer([f"unix://{path}"]))


async def test_tls(tmp_path: Path) -> None:
    """rediss:// with our own authority works; without it the certificate is refused."""
    certificate, key = make_certificate(tmp_path)
    port = free_port()
    files = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate)]
    try:
        server = RedisServer("--tls-port", str(port), *files, "--tls-auth-clients", "no").start()
    except RuntimeError:
        pytest.skip("this Redis was built without TLS")
    with server:
        trusting = f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}"
        await assert_works(RedisChannelLayer([trusting]))
        doubting = RedisChannelLayer([f"rediss://localhost:{port}/0"])
        with pytest.raises(BackplaneUnavailable, match=r"(?i)certificate"):
            await doubting.group_send("chat", {"type": "t"})
        await doubting.close()


async def test_sentinels_name_the_master(tmp_path: Path) -> None:
    """With `sentinels` and `master_name` the layer asks for the master, and again after a failover."""
    with RedisServer() as master, RedisServer() as successor:
        config = tmp_path / "sentinel.conf"
        config.write_text(f"sentinel monitor main 127.0.0.1 {master.port} 1\n")
        with RedisServer(sentinel_config=config) as sentinel:
            host = {"master_name": "main", "sentinels": [("127.0.0.1", free_port()), ("127.0.0.1", sentinel.port)]}
            layer = RedisChannelLayer([host])
            node, recorder = layer.backplane(), Recorder()
            await node.open(node_channel(), recorder)
            await node.subscribe(["rt.r.x"])
            sentinel.command("SENTINEL", "REMOVE", "main")
            sentinel.command("SENTINEL", "MONITOR", "main", "127.0.0.1", str(successor.port), "1")
            master.kill()
            await recorder.until_event("resumed")
            successor.command("PUBLISH", "asgi__group__rt.r.x", "{}")
            await recorder.until_envelope(b"{}")
            await node.close()


async def test_a_replica_is_not_taken_for_a_master(tmp_path: Path) -> None:
    """When the Sentinels are behind the times and name a server that is a replica now, it is refused."""
    with RedisServer() as master, RedisServer("--replicaof", "127.0.0.1", str(master.port)) as replica:
        config = tmp_path / "sentinel.conf"
        config.write_text(f"sentinel monitor main 127.0.0.1 {replica.port} 1\n")
        with RedisServer(sentinel_config=config) as sentinel:
            layer = RedisChannelLayer([{"master_name": "main", "sentinels": [("127.0.0.1", sentinel.port)]}])
            with pytest.raises(BackplaneUnavailable, match="slave"):
                await layer.group_send("chat", {"type": "t"})
            await layer.close()


def test_unknown_options_of_a_host_are_refused() -> None:
    """A misspelt option does not silently do nothing; options of redis-py without meaning here are taken."""
    with pytest.raises(ValueError, match="pasword"):
        RedisChannelLayer([{"host": "localhost", "port": 6379, "pasword": "x"}])
    RedisChannelLayer([{"address": "redis://localhost:6379/1", "socket_timeout": None}, ("localhost", 6380)])
    with pytest.raises(ValueError, match="list"):
        RedisChannelLayer("redis://localhost")
