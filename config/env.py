"""The only reader of the environment.

Each function reads one variable and returns a value of one type. A value that cannot be used raises
`ImproperlyConfigured` with one line that names the variable, which stops the start. Values that may hold a
secret are never repeated. An empty variable counts as one that is not set. A secret may be in a file that
`NAME_FILE` names instead.
"""

import importlib.util
import math
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from realtime.layers import addresses
from realtime.layers.kafka_address import Options, parse_hosts

T = TypeVar("T")

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})
SQLITE = "django.db.backends.sqlite3"
POSTGRESQL = "django.db.backends.postgresql"
COUNTED = {
    SQLITE: "django_prometheus.db.backends.sqlite3",
    POSTGRESQL: "django_prometheus.db.backends.postgresql",
}
DATABASE_EXAMPLE = "use sqlite:////path/to/file or postgres://user:password@host:5432/name"
BACKPLANE_EXAMPLE = (
    "use redis://host:6379/0, redis+sentinel://host:26379,host:26379/master, amqp://user:password@host:5672/,"
    " kafka://host:9092,host:9092 or memory://"
)

# Channel layers by the scheme of BACKPLANE_URL.
LAYERS = {
    "amqp": "realtime.layers.rabbitmq.RabbitmqChannelLayer",
    "amqps": "realtime.layers.rabbitmq.RabbitmqChannelLayer",
    "kafka": "realtime.layers.kafka.KafkaChannelLayer",
    "kafka+ssl": "realtime.layers.kafka.KafkaChannelLayer",
    "memory": "realtime.layers.memory.MemoryChannelLayer",
    "redis": "realtime.layers.redis.RedisChannelLayer",
    "redis+sentinel": "realtime.layers.redis.RedisChannelLayer",
    "rediss+sentinel": "realtime.layers.redis.RedisChannelLayer",
    "rediss": "realtime.layers.redis.RedisChannelLayer",
    "unix": "realtime.layers.redis.RedisChannelLayer",
}

# What a scheme needs on top of requirements.txt: a module, and the file that installs it.
LIBRARIES = {
    "amqp": ("pamqp", "requirements-rabbitmq.txt"),
    "amqps": ("pamqp", "requirements-rabbitmq.txt"),
    "kafka": ("aiokafka", "requirements-kafka.txt"),
    "kafka+ssl": ("aiokafka", "requirements-kafka.txt"),
}
KAFKA = ("kafka", "kafka+ssl")
SEVERAL_HOSTS = (*KAFKA, *addresses.SENTINEL_SCHEMES)
"""Their URLs name several hosts, separated by commas."""

IN_FILE = "_FILE"
SECRET_FILE_BYTES = 65_536
KEY_CHARACTERS = 32  # a key is hashed once, not stretched: a short one can be guessed


def text(name: str, default: str = "") -> str:
    """A string, without surrounding white space."""
    return os.environ.get(name, "").strip() or default


def secret(name: str, default: str = "") -> str:
    """The same, or what is in the file that `NAME_FILE` names."""
    path = text(name + IN_FILE)
    if not path:
        return text(name, default)
    if text(name):
        raise _refuse(name, f"and {name + IN_FILE} are both set; which of them holds?")
    return _from_file(name + IN_FILE, path)


def choice(name: str, default: str, allowed: Collection[str]) -> str:
    """One of a few words, in capitals."""
    value = text(name, default).upper()
    if value not in allowed:
        raise _refuse(name, f"must be one of {', '.join(allowed)}, not {value!r}")
    return value


def flag(name: str, *, default: bool) -> bool:
    """1, true, yes or on; 0, false, no or off."""
    value = text(name).lower()
    if value in TRUE:
        return True
    if value in FALSE:
        return False
    if not value:
        return default
    raise _refuse(name, f"must be 1 or 0, not {value!r}")


def integer(name: str, default: int) -> int:
    """A whole number; `_` may separate thousands."""
    return _converted(name, default, int, "a whole number")


def number(name: str, default: float) -> float:
    """A finite decimal number."""
    return _converted(name, default, _finite, "a number")


def words(name: str, default: Collection[str] = ()) -> list[str]:
    """A list, separated by commas."""
    return _split(text(name)) or list(default)


def keys(name: str) -> list[str]:
    """Secret keys, separated by commas, the newest first."""
    found = _split(secret(name))
    if any(len(key) < KEY_CHARACTERS for key in found):
        raise _refuse(name, f"has a key under {KEY_CHARACTERS} characters; make one with: openssl rand -base64 32")
    return found


def required(name: str, *, when: str, example: str, is_secret: bool = False) -> str:
    """A string that must be there; `when` says why, `example` how to set it."""
    value = secret(name) if is_secret else text(name)
    if not value:
        raise _refuse(name, f"must be set when {when}, for example {name}={example}")
    return value


def database(name: str, *, default: str) -> dict[str, Any]:
    """Django's settings for one database, from its URL."""
    try:
        settings = dict(dj_database_url.parse(secret(name, default)))
    except (ValueError, dj_database_url.UnknownSchemeError, dj_database_url.ParseError):
        # The library's message repeats the URL, which may hold a password.
        raise _refuse(name, f"is not a database URL; {DATABASE_EXAMPLE}") from None
    if settings.get("ENGINE") not in (SQLITE, POSTGRESQL) or not settings.get("NAME"):
        raise _refuse(name, f"is of no supported kind or names no database; {DATABASE_EXAMPLE}")
    return settings


def channel_layers(name: str, *, default: str, prefix: str, encryption_keys: Collection[str] = ()) -> dict[str, Any]:
    """Django's CHANNEL_LAYERS, from one backplane URL or several (shards), separated by commas.

    With keys, everything that leaves the process is encrypted by the first of them.
    """
    urls = _backplane_urls(_split(secret(name, default)))
    schemes = {_backplane_scheme(name, url) for url in urls}
    layers = {LAYERS[scheme] for scheme in schemes}
    if len(layers) > 1 or ("memory" in schemes and len(urls) > 1):
        raise _refuse(
            name, "mixes backplanes; several URLs are shards of one Redis backplane, or members of one RabbitMQ cluster"
        )
    layer: dict[str, Any] = {"BACKEND": layers.pop()}
    if "memory" not in schemes:
        layer["CONFIG"] = {"hosts": urls, "prefix": prefix}
        if encryption_keys:
            layer["CONFIG"]["symmetric_encryption_keys"] = list(encryption_keys)
    return {"default": layer}


def settings_by_type(
    kinds: Mapping[str, Any], *, prefix: str, renamed: Mapping[str, str], secrets: Collection[str] = ()
) -> dict[str, Any]:
    """The values of those settings that the environment sets, by setting.

    `kinds` has the type of each setting. A setting's variable is `prefix` and its name, unless `renamed`
    has another. A variable with the prefix that names no setting is refused: it is most likely misspelt.
    Those in `secrets` may be in a file.
    """
    variables = {name: renamed.get(name, prefix + name) for name in kinds}
    known = {*variables.values(), *(variables[name] + IN_FILE for name in secrets)}
    for variable in sorted(os.environ):
        if variable.startswith(prefix) and variable not in known:
            raise _refuse(variable, "is not a setting; docs/settings.md lists them")
    return {
        name: (_SECRET_READERS if name in secrets else _READERS)[kinds[name]](variable)
        for name, variable in variables.items()
        if text(variable) or (name in secrets and text(variable + IN_FILE))
    }


def _split(value: str) -> list[str]:
    return [word.strip() for word in value.split(",") if word.strip()]


def _from_file(variable: str, path: str) -> str:
    """What is in the file, without surrounding white space."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            value = file.read(SECRET_FILE_BYTES).strip()
    except OSError as error:
        raise _refuse(variable, f"names a file that cannot be read: {error.strerror}") from None
    except ValueError:  # not UTF-8, or a path that can be none
        raise _refuse(variable, "names a file that is no text") from None
    if not value:
        raise _refuse(variable, "names a file that is empty")
    return value


def _converted(name: str, default: T, convert: Callable[[str], T], wanted: str) -> T:
    value = text(name)
    if not value:
        return default
    try:
        return convert(value)
    except ValueError:
        raise _refuse(name, f"must be {wanted}, not {value!r}") from None


def _finite(value: str) -> float:
    result = float(value)
    if not math.isfinite(result):
        raise ValueError(value)
    return result


def _backplane_urls(parts: list[str]) -> list[str]:
    """What commas separate: URLs, and further hosts of the URL before them."""
    urls: list[str] = []
    for part in parts:
        if "://" not in part and urls and urls[-1].split("://", 1)[0] in SEVERAL_HOSTS:
            urls[-1] += f",{part}"
        else:
            urls.append(part)
    return urls


def _backplane_scheme(name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        port = None if parts.scheme in SEVERAL_HOSTS else parts.port  # there each of several hosts has one
    except ValueError:
        raise _refuse(name, f"is not a URL; {BACKPLANE_EXAMPLE}") from None
    if parts.scheme not in LAYERS:
        raise _refuse(name, f"has the unknown scheme {parts.scheme!r}; {BACKPLANE_EXAMPLE}")
    if parts.scheme in KAFKA:
        _require_kafka_url(name, url)
    elif parts.scheme in addresses.SENTINEL_SCHEMES:
        _require_sentinel_url(name, url)
    elif parts.scheme != "memory" and not _is_address(parts, port):
        raise _refuse(name, f"needs a host and at most a port and a database number; {BACKPLANE_EXAMPLE}")
    module, requirements = LIBRARIES.get(parts.scheme, ("", ""))
    if module and importlib.util.find_spec(module) is None:
        raise _refuse(name, f"is {parts.scheme}://, which needs {module}: pip install -r {requirements}")
    return parts.scheme


def _require_kafka_url(name: str, url: str) -> None:
    try:
        Options(**parse_hosts([url])[1])
    except (ValueError, OSError) as error:
        raise _refuse(name, f"is no Kafka URL: {error}") from None


def _require_sentinel_url(name: str, url: str) -> None:
    try:
        addresses.parse_hosts([url])
    except (ValueError, OSError) as error:
        raise _refuse(name, f"is no URL of Sentinels: {error}") from None


def _is_address(parts: SplitResult, port: int | None) -> bool:
    """A host, with a path that means something: on Redis the number of a database, on RabbitMQ a virtual host."""
    path = parts.path.strip("/")
    is_path = not path or path.isdecimal() or parts.scheme in ("amqp", "amqps")
    return bool(parts.hostname) and port != 0 and is_path


def _refuse(name: str, problem: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{name} {problem}")


_READERS: dict[Any, Callable[[str], Any]] = {
    bool: lambda name: flag(name, default=False),
    int: lambda name: integer(name, 0),
    float: lambda name: number(name, 0.0),
    str: text,
    tuple[str, ...]: lambda name: tuple(words(name)),
}

_SECRET_READERS: dict[Any, Callable[[str], Any]] = {
    str: secret,
    tuple[str, ...]: lambda name: tuple(_split(secret(name))),
}
