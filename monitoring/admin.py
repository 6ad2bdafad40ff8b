"""The pages of the admin about the whole cluster: nodes and charts, rooms, broadcast. Rows of single nodes and
connections are in ``realtime.admin``."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import mark_safe

from monitoring.feed import FEED_PATH
from monitoring.fragments import FRAGMENTS
from monitoring.models import Broadcast, Cluster, Room
from monitoring.series import SPANS, series
from realtime import api
from realtime.admin_actions import MessageForm, log_actions
from realtime.exceptions import BackplaneUnavailable, RealtimeError
from realtime.runtime import runtime

if TYPE_CHECKING:  # generic in django-stubs only
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin

MEMBERS_SHOWN = 100


class PageAdmin(_ModelAdmin):
    """A page in the place of a list of rows."""

    view_permission = ""
    page = ""
    template = ""

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Whether the index of the admin shows it."""
        return request.user.has_perm(self.view_permission)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the page may be seen."""
        return request.user.has_perm(self.view_permission)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """There is nothing to add."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """There is nothing to change."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """There is nothing to delete."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """The page, its living part, and what belongs to it; no pages for single rows."""
        name = f"monitoring_{self.opts.model_name}"
        return [
            path("", self.admin_site.admin_view(self.page_view), name=f"{name}_changelist"),
            path("fragment/", self.admin_site.admin_view(self.fragment_view), name=f"{name}_fragment"),
            *self.more_urls(name),
        ]

    def more_urls(self, name: str) -> list[URLPattern]:
        """Other pages of this one."""
        return []

    def require(self, request: HttpRequest, permission: str) -> None:
        """Raises PermissionDenied without it."""
        if not request.user.has_perm(permission):
            raise PermissionDenied

    def page_view(self, request: HttpRequest) -> HttpResponse:
        """The page as it is now; its script keeps it up to date."""
        self.require(request, self.view_permission)
        html = FRAGMENTS[self.page].render(request.GET.dict())
        return self.render(request, self.template, {"fragment": mark_safe(html), "page": self.page})

    def fragment_view(self, request: HttpRequest) -> HttpResponse:
        """The living part alone, where the feed does not get through."""
        self.require(request, self.view_permission)
        response = JsonResponse({"html": FRAGMENTS[self.page].render(request.GET.dict())})
        response["Cache-Control"] = "no-store"
        return response

    def render(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        """With what every page of the admin has."""
        common = {
            **self.admin_site.each_context(request),
            "title": str(self.opts.verbose_name_plural).capitalize(),
            "opts": self.opts,
            "list_url": reverse(f"admin:monitoring_{self.opts.model_name}_changelist"),
            "feed": f"{runtime().settings.path_prefix}{FEED_PATH}",
        }
        return TemplateResponse(request, template, {**common, **context})


@admin.register(Cluster)
class ClusterAdmin(PageAdmin):
    """Every node with its figures and its health, totals, and charts."""

    view_permission = "monitoring.view_cluster"
    page = "cluster"
    template = "monitoring/admin/cluster.html"

    def more_urls(self, name: str) -> list[URLPattern]:
        """What the charts show."""
        return [path("series/<slug:span>/", self.admin_site.admin_view(self.series_view), name=f"{name}_series")]

    def series_view(self, request: HttpRequest, span: str) -> HttpResponse:
        """The series of the last hour or day."""
        self.require(request, self.view_permission)
        if span not in SPANS:
            return JsonResponse({"error": f"one of {', '.join(SPANS)} is needed"}, status=404)
        return JsonResponse(series(SPANS[span], time.time()))


@admin.register(Room)
class RoomAdmin(PageAdmin):
    """Rooms over the cluster, their members, and what may be done to them."""

    view_permission = "monitoring.view_room"
    page = "rooms"
    template = "monitoring/admin/rooms.html"

    def more_urls(self, name: str) -> list[URLPattern]:
        """One room; its name may have any character, so it is in the query."""
        return [path("room/", self.admin_site.admin_view(self.room_view), name=f"{name}_room")]

    def room_view(self, request: HttpRequest) -> HttpResponse:
        """The members of a room; a message to it, and taking a member out, each after a confirmation."""
        self.require(request, self.view_permission)
        name, after = request.GET.get("name", ""), request.GET.get("after", "")
        form = MessageForm(request.POST if request.POST.get("act") == "message" else None)
        try:
            if request.method == "POST" and (response := self._act(request, name, form)) is not None:
                return response
            found = api.list_members(name, limit=MEMBERS_SHOWN, after=after)
        except BackplaneUnavailable as error:
            return self.render(request, "monitoring/admin/room.html", {"room": name, "error": error, "title": name})
        except RealtimeError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(reverse("admin:monitoring_room_changelist"))
        context = {
            "room": name,
            "found": found,
            "form": form,
            "title": name,
            "may_message": request.user.has_perm("monitoring.message_room"),
            "may_remove": request.user.has_perm("monitoring.remove_member"),
            "confirm": self._confirmation(request, form),
        }
        return self.render(request, "monitoring/admin/room.html", context)

    def _act(self, request: HttpRequest, name: str, form: MessageForm) -> HttpResponse | None:
        """Do what was asked and confirmed. None: the page asks for the confirmation."""
        act, is_confirmed = request.POST.get("act"), "confirmed" in request.POST
        if act == "message":
            self.require(request, "monitoring.message_room")
            if not is_confirmed or not form.is_valid():
                return None
            api.publish_room(name, form.cleaned_data["message"])
            log_actions(request, [Room(name=name)], "Sent a message to the room.")
            messages.success(request, "The message was published to the room.")
        elif act == "remove":
            self.require(request, "monitoring.remove_member")
            member = request.POST.get("connection", "")
            if not is_confirmed:
                return None
            count = api.remove_member(room=name, connection=member).count
            log_actions(request, [Room(name=name)], f"Took {member} out of the room.")
            messages.success(request, f"{count} member was taken out." if count else "It was not in the room any more.")
        return HttpResponseRedirect(request.get_full_path())

    def _confirmation(self, request: HttpRequest, form: MessageForm) -> dict[str, Any] | None:
        act = request.POST.get("act")
        if act == "remove":
            return {"act": act, "connection": request.POST.get("connection", "")}
        if act == "message" and form.is_valid():
            return {"act": act, "preview": json.dumps(form.cleaned_data["message"], ensure_ascii=False)}
        return None


@admin.register(Broadcast)
class BroadcastAdmin(PageAdmin):
    """A message to everybody."""

    view_permission = "monitoring.send_broadcast"

    def page_view(self, request: HttpRequest) -> HttpResponse:
        """Write, look at it, and send it."""
        self.require(request, self.view_permission)
        form = MessageForm(request.POST or None)
        context: dict[str, Any] = {"form": form}
        if request.method == "POST" and form.is_valid():
            message = form.cleaned_data["message"]
            try:
                if "confirmed" in request.POST:
                    api.publish_broadcast(message)
                    log_actions(request, [Broadcast(pk=0)], "Sent a message to everybody.")
                    messages.success(request, "The message was published to everybody.")
                    return HttpResponseRedirect(request.path)
                context |= {
                    "preview": json.dumps(message, ensure_ascii=False, indent=1),
                    "count": api.list_connections(limit=0).total,
                }
            except BackplaneUnavailable as error:
                context["error"] = error
        return self.render(request, "monitoring/admin/broadcast.html", context)

    def fragment_view(self, request: HttpRequest) -> HttpResponse:
        """This page has none."""
        raise PermissionDenied
