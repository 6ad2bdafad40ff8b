"""Names that a project may have given to something of its own: applications, commands, tables, routes.

Each function finds one kind of clash; ``checks`` gives it a number. The configurations of the applications ask
``taken_label`` before any model is imported, so that this module imports none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import find_commands
from django.urls import Resolver404, resolve
from django.utils.module_loading import import_string

from realtime import conf

Problem = tuple[str, str]
"""What is wrong, and what to do about it."""

OURS = ("realtime", "monitoring")
HOME = Path(__file__).resolve().parents[1]
COMMAND_PREFIX = "realtime_"
SESSION_STORES = ("django.contrib.sessions.backends.db", "django.contrib.sessions.backends.cached_db")
_NOWHERE = "no-project-has-this-path/"
"""What matches it matches everything, as the last route of many a project does."""


def require_own_label(label: str) -> None:
    """Raises ImproperlyConfigured where another application has our label: Django would not say what to do."""
    problem = _taken_label(label)
    if problem is not None:
        raise ImproperlyConfigured(f"(realtime.E051) {problem[0]} {problem[1]}")


def taken_label() -> Problem | None:
    """Another application has the label of one of ours."""
    for label in OURS:
        if apps.is_installed(label) and (problem := _taken_label(label)):
            return problem
    return None


def _taken_label(label: str) -> Problem | None:
    for entry in settings.INSTALLED_APPS:
        parts = entry.split(".")
        if parts[0] in OURS or label not in parts or AppConfig.create(entry).label != label:
            continue
        return (
            f"The application {entry!r} in INSTALLED_APPS has the label {label!r}, which is ours.",
            "Give it another `label` in its AppConfig, with `db_table` for the tables that it has; or, if it is"
            " 'monitoring', leave ours out: nodes do without.",
        )
    return None


def stranger() -> Problem | None:
    """What INSTALLED_APPS calls ``monitoring`` is a package of the project, which Python finds before ours."""
    if not apps.is_installed("monitoring"):
        return None
    found = Path(apps.get_app_config("monitoring").path).resolve()
    if found.parent == HOME:
        return None
    return (
        f"'monitoring' in INSTALLED_APPS is {found}, not the application that came with 'realtime'.",
        "Rename that package, or import it under the name of the package that it is in.",
    )


def hiding_commands() -> Problem | None:
    """Commands of other applications that ours hide."""
    names = [f"{command} ({other})" for command, other, is_hidden in _shared_commands() if is_hidden]
    if not names:
        return None
    return (
        f"Our management commands hide those of other applications: {', '.join(names)}.",
        f"List 'realtime' and 'monitoring' after these in INSTALLED_APPS; ours are also called"
        f" {COMMAND_PREFIX}cleanup, {COMMAND_PREFIX}stats, and so on.",
    )


def hidden_commands() -> Problem | None:
    """Commands of ours that other applications hide."""
    names = [f"{command} ({other})" for command, other, is_hidden in _shared_commands() if not is_hidden]
    if not names:
        return None
    return (
        f"Management commands of other applications hide ours: {', '.join(names)}.",
        f"Call ours by its other name, {COMMAND_PREFIX}cleanup, {COMMAND_PREFIX}stats, and so on; then silence this.",
    )


def _shared_commands() -> Iterator[tuple[str, str, bool]]:
    """Each command that another application has, too; that one's name; and whether ours hides it."""
    configs = list(apps.get_app_configs())
    ours = {config.label: set(_commands(config)) for config in configs if _is_ours(config)}
    order = {config.label: place for place, config in enumerate(configs)}
    for config in configs:
        if _is_ours(config):
            continue
        for command in _commands(config):
            for label in (label for label, names in ours.items() if command in names):
                yield command, config.name, order[label] < order[config.label]


def _commands(config: AppConfig) -> list[str]:
    return find_commands(str(Path(config.path) / "management"))


def _is_ours(config: AppConfig) -> bool:
    return config.name in OURS and Path(config.path).resolve().parent == HOME


def taken_tables() -> Problem | None:
    """A model of the project has a table of ours."""
    ours = _tables()
    names = [
        f"{model._meta.label} ({model._meta.db_table})" for model in _other_models() if model._meta.db_table in ours
    ]
    if not names:
        return None
    return f"Models of other applications have tables of ours: {', '.join(names)}.", _OTHER_TABLES


def foreign_tables() -> Problem | None:
    """The database has a table of ours that no migration of ours has made."""
    from django.db import connections
    from django.db.migrations.recorder import MigrationRecorder

    from realtime.rows import database_alias

    connection = connections[database_alias()]
    found = sorted(_tables() & set(connection.introspection.table_names()))
    if not found or ("realtime", "0001_initial") in MigrationRecorder(connection).applied_migrations():
        return None
    return f"The database has tables of these names already, and not from us: {', '.join(found)}.", _OTHER_TABLES


_OTHER_TABLES = (
    "Set REALTIME['TABLE_PREFIX'] before the first `migrate`: all our tables and indexes begin with it, "
    "'realtime_' by default."
)


def _tables() -> set[str]:
    return {model._meta.db_table for model in apps.get_app_config("realtime").get_models()}


def _other_models() -> Iterable[Any]:
    return (model for model in apps.get_models(include_auto_created=True) if model._meta.app_label != "realtime")


def missing_sessions() -> Problem | None:
    """Sessions are kept in a table that is not there."""
    engine = settings.SESSION_ENGINE
    if engine not in SESSION_STORES or apps.is_installed("django.contrib.sessions"):
        return None
    return (
        "'django.contrib.sessions' is not in INSTALLED_APPS: no session says who a client is.",
        "Add it, or set SESSION_ENGINE to one that needs no table.",
    )


def unwrapped_application() -> Problem | None:
    """ASGI_APPLICATION serves no WebSockets of ours."""
    name = getattr(settings, "ASGI_APPLICATION", None)
    if not name:  # E004 says so
        return None
    try:
        if _wrapped():
            return None
        problem = f"{name} (ASGI_APPLICATION) is not wrapped: it serves no WebSockets of ours, and has no node."
    except Exception as error:  # whatever its module raises
        problem = f"{name} (ASGI_APPLICATION) cannot be imported: {type(error).__name__}: {error}"
    return (
        problem,
        "`from realtime.routing import realtime_application`; `application = realtime_application(application)`.",
    )


def hidden_routes() -> Problem | None:
    """Routes of the project, WebSocket or HTTP, that ours come before."""
    prefix = _settings().path_prefix
    names = []
    try:
        routers = [route for inner in _wrapped() for route in _routes(inner)]
    except Exception:  # unwrapped_application says so
        routers = []
    for path in (f"{prefix}/ws/", f"{prefix}/socket.io/"):
        if any(_matches([route], path[1:]) and not _matches([route], _NOWHERE) for route in routers):
            names.append(f"{path} (WebSocket)")
    if _settings().socketio_is_on and _is_url(f"{prefix}/socket.io/"):
        names.append(f"{prefix}/socket.io/ (HTTP)")
    if not names:
        return None
    return (
        f"The project has routes that are never reached, as nodes serve these paths themselves: {', '.join(names)}.",
        "Set REALTIME['PATH_PREFIX'], or SOCKETIO_IS_ON to False if there are no Socket.IO clients.",
    )


def _wrapped() -> tuple[Any, ...]:
    """What this process has wrapped; where that is nothing yet, as in ``manage.py``, what ASGI_APPLICATION wraps."""
    from realtime.routing import wrapped_applications

    name = getattr(settings, "ASGI_APPLICATION", None)
    if not wrapped_applications() and name:
        import_string(name)
    return wrapped_applications()


def _routes(application: Any) -> Iterator[Any]:
    """The routes of a Channels URLRouter, which may be inside a ProtocolTypeRouter and middlewares."""
    inside, seen = [application], 0
    while inside and (seen := seen + 1) < 50:
        each = inside.pop()
        yield from getattr(each, "routes", ())
        mapping = getattr(each, "application_mapping", {})
        parts = (mapping.get("websocket"), getattr(each, "inner", None), getattr(each, "application", None))
        inside += [part for part in parts if part is not None]


def _matches(routes: Iterable[Any], path: str) -> bool:
    for route in routes:
        found = route.pattern.match(path)
        nested = getattr(route.callback, "routes", None)
        if found is not None and (nested is None or _matches(nested, found[0])):
            return True
    return False


def _is_url(path: str) -> bool:
    """Whether the URLconf has a route for it, other than one for everything."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return False
    try:
        found = resolve(path)
    except Resolver404:
        return False
    try:
        return resolve(f"/{_NOWHERE}").func is not found.func
    except Resolver404:
        return True


def _settings() -> conf.Settings:
    """The settings as far as they can be read: E001 speaks of the rest."""
    try:
        return conf.current()
    except conf.BadSetting:
        return conf.Settings()
