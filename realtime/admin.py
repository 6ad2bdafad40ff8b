"""Read-only lists of nodes and connections. Only exact and prefix searches, so that a million rows stay quick."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Concat
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join

from realtime.admin_actions import DISCONNECT, DRAIN, MARK_DEAD, MESSAGE, Action, may, run_action
from realtime.models import ENDED_STATES, Connection, Node
from realtime.protocol.closing import CLOSE_CODES
from realtime.protocol.names import user_of_recipient

if TYPE_CHECKING:  # generic in django-stubs only
    _ModelAdmin = admin.ModelAdmin[Any]
    _Paginator = Paginator[Any]
else:
    _ModelAdmin = admin.ModelAdmin
    _Paginator = Paginator

COUNTED_MAX = 10_000
"""Results are counted up to here: counting a million rows takes longer than showing a hundred of them."""

OTHERS_MAX = 20
"""Other connections of the same client, on a connection's page."""

_COUNT = "realtime_count"
_LAST_CHARACTER = "\U0010ffff"
_SEARCHED = ("id", "user_label", "remote_address")
_Lookups = list[tuple[str, str]]


class ReadOnlyAdmin(_ModelAdmin):
    """What is here was written by nodes; nobody adds, changes or deletes it by hand."""

    show_full_result_count = False
    row_actions: tuple[Action, ...] = ()
    """What those with the permission may do to the rows that they choose."""

    class Media:
        css: ClassVar = {"all": ("realtime/admin.css",)}

    def get_actions(self, request: HttpRequest) -> Any:
        """Those that this user may use."""
        return {
            action.name: (_run(action), action.name, action.label)
            for action in self.row_actions
            if may(request, self.model, action.permission)
        }

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The list; an action without its permission is forbidden, not just left out."""
        wanted = request.POST.get("action", "")
        for action in self.row_actions:
            if action.name == wanted and not may(request, self.model, action.permission):
                raise PermissionDenied
        return super().changelist_view(request, extra_context)

    def live_only(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of ``queryset`` that something can be done to."""
        return queryset

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False


def _run(action: Action) -> Callable[..., HttpResponse | None]:
    def run(model_admin: ReadOnlyAdmin, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return run_action(model_admin, request, model_admin.live_only(queryset), action)

    return run


class BoundedPaginator(_Paginator):
    """Counts no more than COUNTED_MAX results; what lies beyond is found by searching."""

    @cached_property
    def count(self) -> int:
        """The number of results, or COUNTED_MAX."""
        results = self.object_list
        if not isinstance(results, QuerySet):
            return len(results)
        return results.order_by()[:COUNTED_MAX].count()  # in order, each row would have to be looked up


class NodeFilter(admin.SimpleListFilter):
    """Connections of one node; the choices come from the few rows of nodes, not from the many of connections."""

    title = "node"
    parameter_name = "node"

    def lookups(self, request: HttpRequest, model_admin: Any) -> _Lookups:
        """The latest nodes, by id."""
        latest = Node.objects.order_by("-last_heartbeat").values_list("id", flat=True)[:50]
        return [(node_id, node_id) for node_id in latest]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Connection]) -> QuerySet[Connection]:
        """The rows that name the node, also one that is not among the choices."""
        return queryset.filter(node=self.value()) if self.value() else queryset


class LiveFilter(admin.SimpleListFilter):
    """Live or ended connections."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> _Lookups:
        """Two."""
        return [("live", "Live"), ("ended", "Ended")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Connection]) -> QuerySet[Connection]:
        """By ``disconnected``."""
        if self.value() in ("live", "ended"):
            return queryset.filter(disconnected__isnull=self.value() == "live")
        return queryset


class TransportFilter(admin.SimpleListFilter):
    """Connections of one transport."""

    title = "transport"
    parameter_name = "transport"

    def lookups(self, request: HttpRequest, model_admin: Any) -> _Lookups:
        """Those that the project knows."""
        return [("websocket", "WebSocket"), ("socketio", "Socket.IO")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Connection]) -> QuerySet[Connection]:
        """By ``transport``."""
        return queryset.filter(transport=self.value()) if self.value() else queryset


class CloseCodeFilter(admin.SimpleListFilter):
    """Connections that ended with one close code."""

    title = "close code"
    parameter_name = "close_code"

    def lookups(self, request: HttpRequest, model_admin: Any) -> _Lookups:
        """Our own codes, and the two that clients and networks end with."""
        names: dict[int, list[str]] = {1000: ["normal"], 1006: ["no close frame"]}
        for close in CLOSE_CODES:
            names.setdefault(close.code, []).append(close.reason)
        return [(str(code), f"{code} {' / '.join(names[code])}") for code in sorted(names)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Connection]) -> QuerySet[Connection]:
        """By ``close_code``."""
        value = self.value() or ""
        return queryset.filter(close_code=int(value)) if value.isdecimal() and len(value) < 6 else queryset


class LiveNodeFilter(admin.SimpleListFilter):
    """Live or ended nodes."""

    title = "life"
    parameter_name = "life"

    def lookups(self, request: HttpRequest, model_admin: Any) -> _Lookups:
        """Two."""
        return [("live", "Live"), ("ended", "Stopped or dead")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Node]) -> QuerySet[Node]:
        """By ``state``."""
        ended = Q(state__in=ENDED_STATES)
        return {"live": queryset.exclude(ended), "ended": queryset.filter(ended)}.get(self.value() or "", queryset)


@admin.register(Node)
class NodeAdmin(ReadOnlyAdmin):
    """The nodes, newest heartbeat first; each links to its connections."""

    list_display = ("id", "state", "address", "version", "connections", "rooms", "started", "last_heartbeat")
    list_filter = (LiveNodeFilter, "state", "version")
    search_fields = ("id", "address")
    search_help_text = "The beginning of a node's id or address"
    ordering = ("-last_heartbeat",)
    row_actions = (DRAIN, MARK_DEAD)
    fields = ("id", "address", "version", "started", "last_heartbeat", "state", "checks", "figures")
    readonly_fields = ("checks", "figures")

    def live_only(self, queryset: QuerySet[Node]) -> QuerySet[Node]:
        """Nodes that have neither stopped nor died."""
        return queryset.exclude(state__in=ENDED_STATES)

    @admin.display(description="connections")
    def connections(self, node: Node) -> str:
        """As of the last heartbeat."""
        return _figure(node, "connections")

    @admin.display(description="rooms")
    def rooms(self, node: Node) -> str:
        """As of the last heartbeat."""
        return _figure(node, "rooms")

    @admin.display(description="health")
    def checks(self, node: Node) -> str:
        """What each check found last."""
        return _lines(
            (f"{'✓' if found['is_healthy'] else '✗'} {found['check']}", found["reason"] or "") for found in node.health
        )

    @admin.display(description="statistics")
    def figures(self, node: Node) -> str:
        """All figures of the last heartbeat."""
        return _lines((f"{name}:", f"{value:,}") for name, value in node.statistics.items())

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Node], search_term: str
    ) -> tuple[QuerySet[Node], bool]:
        """By prefix."""
        term = search_term.strip()
        return queryset.filter(Q(id__startswith=term) | Q(address__startswith=term)) if term else queryset, False


@admin.register(Connection)
class ConnectionAdmin(ReadOnlyAdmin):
    """The connections, newest first."""

    list_display = (
        "id",
        "who",
        "node",
        "transport",
        "remote_address",
        "connected",
        "last_seen",
        "disconnected",
        "close_code",
        "close_reason",
        "messages_in",
        "messages_out",
        "rooms",
    )
    list_filter = (LiveFilter, NodeFilter, TransportFilter, CloseCodeFilter)
    list_select_related = False
    list_per_page = 50
    search_fields = _SEARCHED
    search_help_text = "The beginning of a connection's id, a user's name or an address; or user:<primary key>"
    ordering = ("-connected", "-id")
    sortable_by = ("connected",)
    paginator = BoundedPaginator
    row_actions = (DISCONNECT, MESSAGE)
    change_form_template = "realtime/admin/connection.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Connection]:
        """All rows; their users are fetched by one query more, since a join would lose rows of users that are gone."""
        return super().get_queryset(request).prefetch_related("user")

    def live_only(self, queryset: QuerySet[Connection]) -> QuerySet[Connection]:
        """Connections that have not ended."""
        return queryset.filter(disconnected__isnull=True)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One connection, what may be done to it, and others of the same client."""
        row = self.get_object(request, object_id)
        context = {
            "row_actions": [action for action in self.row_actions if may(request, self.model, action.permission)],
            "others": [] if row is None else others_of(row),
            "action_name": ACTION_CHECKBOX_NAME,
        }
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @admin.display(description="user")
    def who(self, row: Connection) -> str:
        """The user as they are called now, else as the credential called them."""
        return str(row.user) if row.user is not None else row.user_label or "-"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Connection], search_term: str
    ) -> tuple[QuerySet[Connection], bool]:
        """By user, exactly; or by the beginning of what an index knows."""
        term = search_term.strip()
        if not term:
            return queryset, False
        user = user_of_recipient(term)
        if user is not None:
            return queryset.filter(_is_user(user)), False
        rows = Connection.objects.using(queryset.db).order_by()
        beginnings = _beginnings(queryset.db, term)
        found = [list(rows.filter(begins).values_list("id", flat=True)[:COUNTED_MAX]) for begins in beginnings]
        is_crowd = any(len(ids) == COUNTED_MAX for ids in found)
        ids = set().union(*found)
        if not set(request.GET) - {"q", "p", "o"}:  # no filter takes any of them away
            setattr(request, _COUNT, min(len(ids), COUNTED_MAX))
        if is_crowd:
            # So many that the newest are soon found by looking at one after another; sorting them all takes seconds.
            searched = queryset.alias(
                **{f"_{name}": Concat(name, Value("")) for name in _SEARCHED}
            )  # hides the indexes
            return searched.filter(_any(Q(**{f"_{name}__startswith": term}) for name in _SEARCHED)), False
        # The ids themselves: of conditions joined by OR, or a union of them, PostgreSQL makes a look at every row.
        return queryset.filter(id__in=ids), False

    def get_paginator(self, request: HttpRequest, queryset: Any, per_page: int, *args: Any, **options: Any) -> Any:
        """What a search has counted is not counted again: of a crowd that would look at every row."""
        paginator = super().get_paginator(request, queryset, per_page, *args, **options)
        count = getattr(request, _COUNT, None)
        if count is not None:
            paginator.count = count
        return paginator


def others_of(row: Connection) -> list[Connection]:
    """The latest connections of the same user; of nobody's connection, those from the same address."""
    rows = Connection.objects.exclude(pk=row.pk).order_by("-connected", "-id")
    if row.user_id is not None:
        return list(rows.filter(user_id=row.user_id)[:OTHERS_MAX])
    if row.remote_address:
        return list(rows.filter(user__isnull=True, remote_address=row.remote_address)[:OTHERS_MAX])
    return []


def _figure(node: Node, name: str) -> str:
    value = node.statistics.get(name)
    return "-" if value is None else f"{value:,.0f}"


def _lines(pairs: Iterable[tuple[str, str]]) -> str:
    items = format_html_join("", "<li>{} {}</li>", pairs)
    return format_html('<ul class="rt-figures">{}</ul>', items) if items else "-"


def _is_user(key: str) -> Q:
    """Rows of the user with this primary key; none for what can be no key."""
    try:
        return Q(user_id=Connection._meta.get_field("user").to_python(key))
    except ValidationError:
        return Q(pk__in=())


def _beginnings(alias: str, prefix: str) -> list[Q]:
    """Prefix searches that an index answers: SQLite uses none for LIKE, PostgreSQL none for a range of text."""
    if connections[alias].vendor == "sqlite":
        return [Q(**{f"{name}__gte": prefix, f"{name}__lt": prefix + _LAST_CHARACTER}) for name in _SEARCHED]
    return [Q(**{f"{name}__startswith": prefix}) for name in _SEARCHED]


def _any(conditions: Iterable[Q]) -> Q:
    return reduce(or_, conditions)
