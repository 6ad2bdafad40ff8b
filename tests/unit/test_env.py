"""The environment is read through typed helpers; a bad value stops the start with a line that names it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import env
from realtime import conf
from tests.support.processes import CHECKOUT
from tests.support.tables import table

NAME = "SOME_VARIABLE"
SetVariable = Callable[[str], None]
Read = Callable[[], object]


@pytest.fixture
def variable(monkeypatch: pytest.MonkeyPatch) -> SetVariable:
    return lambda value: monkeypatch.setenv(NAME, value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1", True), ("Yes", True), (" on ", True), ("0", False), ("FALSE", False), ("", True)],
)
def test_a_flag_has_a_few_spellings(variable: SetVariable, value: str, expected: bool) -> None:
    """A flag is 1, true, yes, on or 0, false, no, off, in any case; empty means the default."""
    variable(value)
    assert env.flag(NAME, default=True) is expected


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (lambda: env.flag(NAME, default=True), "maybe"),
        (lambda: env.integer(NAME, 1), "1.5"),
        (lambda: env.integer(NAME, 1), "ten"),
        (lambda: env.number(NAME, 1), "nan"),
        (lambda: env.number(NAME, 1), "inf"),
        (lambda: env.number(NAME, 1), "1,5"),
        (lambda: env.choice(NAME, "INFO", ("INFO", "ERROR")), "loud"),
        (lambda: env.required(NAME, when="it matters", example="x"), "  "),
        (lambda: env.database(NAME, default=""), "nonsense"),
        (lambda: env.database(NAME, default=""), "mysql://root@localhost/db"),
        (lambda: env.database(NAME, default=""), "postgres://localhost"),
        (lambda: env.database(NAME, default=""), "postgres://localhost:port/name"),
        (lambda: layers(), "http://localhost"),
        (lambda: layers(), "localhost:6379"),
        (lambda: layers(), "redis://"),
        (lambda: layers(), "redis://localhost:99999/0"),
        (lambda: layers(), "redis://localhost/zero"),
        (lambda: layers(), "redis://localhost,memory://"),
        (lambda: layers(), "memory://,memory://"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(variable: SetVariable, read: Read, value: str) -> None:
    """Whatever is wrong with a value, the error is one line that begins with the variable's name."""
    variable(value)
    with pytest.raises(ImproperlyConfigured) as refusal:
        read()
    assert str(refusal.value).startswith(f"{NAME} ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (lambda: env.database(NAME, default=""), "postgres://user:hunter2@localhost:port/name"),
        (lambda: env.database(NAME, default=""), "oracle://user:hunter2@localhost/name"),
        (lambda: layers(), "rediss+x://:hunter2@localhost"),
        (lambda: layers(), "redis://:hunter2@localhost:port"),
        (lambda: layers(), "redis://u:hunter2/x@localhost"),
        (lambda: layers(), "redis+sentinel://u:hunter2/x@localhost/main"),
        (lambda: layers(), "amqp://u:hunter2/x@localhost"),
        (lambda: layers(), "kafka://u:hunter2/x@localhost"),
        (lambda: layers(), "kafka://u:p@localhost?sasl_password=hunter2"),
    ],
)
def test_a_refusal_does_not_repeat_a_password(variable: SetVariable, read: Read, value: str) -> None:
    """The error about a bad URL does not show the URL's password."""
    variable(value)
    with pytest.raises(ImproperlyConfigured) as refusal:
        read()
    assert refusal.value.__context__ is None or refusal.value.__suppress_context__  # the cause does repeat it
    assert "hunter2" not in str(refusal.value)


def test_words_are_separated_by_commas(variable: SetVariable) -> None:
    """A list is split at commas; white space and empty parts do not count."""
    variable(" a.example, b.example ,,")
    assert env.words(NAME) == ["a.example", "b.example"]


def test_several_redis_urls_are_shards(variable: SetVariable) -> None:
    """Several Redis URLs become the hosts of one layer, in their order, with the prefix."""
    variable("redis://a:6379/0, rediss://b:6380/1")
    assert layers() == {
        "BACKEND": "realtime.layers.redis.RedisChannelLayer",
        "CONFIG": {"hosts": ["redis://a:6379/0", "rediss://b:6380/1"], "prefix": "p"},
    }


def test_several_rabbitmq_urls_are_one_cluster(variable: SetVariable) -> None:
    """Several AMQP URLs, with TLS or without, become the hosts of one layer."""
    variable("amqp://u:p@a:5672/shop, amqps://u:p@b")
    assert layers() == {
        "BACKEND": "realtime.layers.rabbitmq.RabbitmqChannelLayer",
        "CONFIG": {"hosts": ["amqp://u:p@a:5672/shop", "amqps://u:p@b"], "prefix": "p"},
    }


def test_the_brokers_of_a_kafka_url_are_one_cluster(variable: SetVariable) -> None:
    """Commas inside a Kafka URL separate its hosts; the layer gets it whole, with its options."""
    variable("kafka://a:9092, b:9092,c/?partitions=8&acks=1")
    assert layers() == {
        "BACKEND": "realtime.layers.kafka.KafkaChannelLayer",
        "CONFIG": {"hosts": ["kafka://a:9092,b:9092,c/?partitions=8&acks=1"], "prefix": "p"},
    }


def test_sentinels_of_several_masters_are_shards(variable: SetVariable) -> None:
    """Commas inside a URL of Sentinels separate their hosts; another URL is another shard."""
    variable("redis+sentinel://:secret@a:26379, b/first/1, redis+sentinel://a,b/second, redis://c")
    assert layers() == {
        "BACKEND": "realtime.layers.redis.RedisChannelLayer",
        "CONFIG": {
            "hosts": ["redis+sentinel://:secret@a:26379,b/first/1", "redis+sentinel://a,b/second", "redis://c"],
            "prefix": "p",
        },
    }


@pytest.mark.parametrize("rest", ["a", "a/", "/main", "a:x/main", "a/main/x", "a/main?nothing=1"])
def test_a_bad_url_of_sentinels_is_refused(variable: SetVariable, rest: str) -> None:
    """No master, no host, a bad port, a bad database and unknown options stop the start, without the password."""
    variable(f"redis+sentinel://user:secret@{rest}")
    with pytest.raises(ImproperlyConfigured, match=rf"^{NAME} ") as caught:
        layers()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["kafka://", "kafka://a:x", "kafka://a/b", "kafka://a?acks=0", "kafka://a?nothing=1", "a,kafka://b"],
)
def test_a_bad_kafka_url_is_refused(variable: SetVariable, url: str) -> None:
    """A broker without a host, a bad port, a path, and options that do not exist stop the start."""
    variable(url)
    with pytest.raises(ImproperlyConfigured, match=rf"^{NAME} "):
        layers()


@pytest.mark.parametrize(("scheme", "backplane"), [("amqp", "rabbitmq"), ("kafka", "kafka")])
def test_a_missing_client_library_is_named(
    variable: SetVariable, monkeypatch: pytest.MonkeyPatch, scheme: str, backplane: str
) -> None:
    """A backplane whose library is not installed stops the start, with the line that installs it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    variable(f"{scheme}://localhost")
    with pytest.raises(ImproperlyConfigured, match=rf"^{NAME} .*pip install -r requirements-{backplane}.txt"):
        layers()


def test_memory_is_a_backplane_without_hosts(variable: SetVariable) -> None:
    """memory:// selects the layer for one process."""
    variable("memory://")
    assert layers() == {"BACKEND": "realtime.layers.memory.MemoryChannelLayer"}


def test_settings_are_read_by_their_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the settings that the environment sets are returned, each in its type, under its own name."""
    monkeypatch.setenv("P_COUNT", "1_000")
    monkeypatch.setenv("P_SECONDS", "0.5")
    monkeypatch.setenv("P_KEYS", "a,b")
    monkeypatch.setenv("OTHER", "here")
    kinds = {"COUNT": int, "SECONDS": float, "KEYS": tuple[str, ...], "WHERE": str, "UNSET": int}
    values = env.settings_by_type(kinds, prefix="P_", renamed={"WHERE": "OTHER"})
    assert values == {"COUNT": 1000, "SECONDS": 0.5, "KEYS": ("a", "b"), "WHERE": "here"}


def test_a_misspelt_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable with the prefix that names no setting stops the start instead of doing nothing."""
    monkeypatch.setenv("P_CONUT", "1")
    with pytest.raises(ImproperlyConfigured, match=r"^P_CONUT is not a setting"):
        env.settings_by_type({"COUNT": int}, prefix="P_", renamed={})


@pytest.fixture
def secret_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SetVariable:
    """Writes a file and names it in the variable for it."""

    def write(content: str) -> None:
        (tmp_path / "secret").write_text(content)
        monkeypatch.setenv(f"{NAME}_FILE", str(tmp_path / "secret"))

    return write


def test_a_secret_may_be_in_a_file(secret_file: SetVariable) -> None:
    """Every kind of secret is read from the file that NAME_FILE names, without its last line's end."""
    secret_file("redis://:hunter2@a:6379/0\n")
    assert env.secret(NAME) == "redis://:hunter2@a:6379/0"
    assert env.required(NAME, when="it matters", example="x", is_secret=True) == "redis://:hunter2@a:6379/0"
    assert layers() == {
        "BACKEND": "realtime.layers.redis.RedisChannelLayer",
        "CONFIG": {"hosts": ["redis://:hunter2@a:6379/0"], "prefix": "p"},
    }
    secret_file("postgres://u:hunter2@a/name")
    assert env.database(NAME, default="")["PASSWORD"] == "hunter2"
    secret_file(f"{'n' * 32}, {'o' * 32}")
    assert env.keys(NAME) == ["n" * 32, "o" * 32]


def test_a_secret_setting_may_be_in_a_file(secret_file: SetVariable) -> None:
    """A setting that is a secret has a variable for its file; one that is none has not."""
    secret_file("new,old")
    kinds = {"VARIABLE": tuple[str, ...], "COUNT": int}
    assert env.settings_by_type(kinds, prefix="SOME_", renamed={}, secrets={"VARIABLE"}) == {"VARIABLE": ("new", "old")}
    with pytest.raises(ImproperlyConfigured, match=rf"^{NAME}_FILE is not a setting"):
        env.settings_by_type(kinds, prefix="SOME_", renamed={})


def test_a_secret_in_both_places_is_refused(secret_file: SetVariable, variable: SetVariable) -> None:
    """Which of the two would hold nobody could know."""
    secret_file("one")
    variable("two")
    with pytest.raises(ImproperlyConfigured, match=rf"^{NAME} and {NAME}_FILE are both set") as refusal:
        env.secret(NAME)
    assert "two" not in str(refusal.value)


@pytest.mark.parametrize("content", [None, b" \n", b"\xff\xfe"], ids=["missing", "empty", "binary"])
def test_a_file_without_a_secret_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    """A file that cannot be read, is empty or no text stops the start with one line that names the variable."""
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    monkeypatch.setenv(f"{NAME}_FILE", str(tmp_path / "secret"))
    with pytest.raises(ImproperlyConfigured, match=rf"^{NAME}_FILE names a file that [^\n]+$"):
        env.secret(NAME)


def test_a_short_encryption_key_is_refused(variable: SetVariable) -> None:
    """A key that could be guessed stops the start, and is not repeated."""
    variable(f"{'n' * 32},hunter2")
    with pytest.raises(ImproperlyConfigured, match=rf"^{NAME} has a key under 32 characters") as refusal:
        env.keys(NAME)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("url", ["redis://a", "amqp://a", "kafka://a"])
def test_encryption_keys_reach_every_layer(variable: SetVariable, url: str) -> None:
    """Each layer that leaves the process gets the keys, the newest first; one in memory needs none."""
    variable(url)
    keys = ["n" * 32, "o" * 32]
    found = env.channel_layers(NAME, default="", prefix="p", encryption_keys=keys)["default"]
    assert found["CONFIG"]["symmetric_encryption_keys"] == keys
    variable("memory://")
    assert "CONFIG" not in env.channel_layers(NAME, default="", prefix="p", encryption_keys=keys)["default"]


def layers() -> dict[str, object]:
    found: dict[str, object] = env.channel_layers(NAME, default="redis://127.0.0.1:6379/0", prefix="p")["default"]
    return found


def test_the_documentation_names_every_variable() -> None:
    """docs/settings.md has one row for each variable that the settings read."""
    rows = [row["variable"].strip("`") for row in table("settings.md", "variable", "default", "what it sets")]
    code = (CHECKOUT / "config" / "settings.py").read_text()
    read = [*re.findall(r'env\.\w+\(\s*"(\w+)"', code), "NODE_NAME", "NODE_ADDRESS", "REALTIME_…"]
    assert sorted(rows) == sorted(set(read))


def test_the_documentation_names_every_secret() -> None:
    """docs/settings.md lists the variables that may be in a file."""
    code = (CHECKOUT / "config" / "settings.py").read_text()
    read = re.findall(r'env\.(?:secret|keys|database|channel_layers)\(\s*"(\w+)"', code)
    read += [f"REALTIME_{name}" for name in conf.secret_names()]
    text = (CHECKOUT / "docs" / "settings.md").read_text()
    [listed] = re.findall(r"^Secrets: (.+?)\.$", text, re.MULTILINE | re.DOTALL)
    assert sorted(re.findall(r"`(\w+)`", listed)) == sorted(set(read))
