"""Health for balancers and people, metrics for Prometheus."""

from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import HttpRequest, HttpResponse, JsonResponse
from django_prometheus.exports import ExportToDjangoView

from monitoring import access, health
from realtime.runtime import runtime


async def live(request: HttpRequest) -> HttpResponse:
    """200: the loop turns and Django answers."""
    return _uncached(JsonResponse({"live": True}))


async def ready(request: HttpRequest) -> HttpResponse:
    """200 when a balancer should send clients here, else 503 with the reason."""
    found = health.readiness()
    return _uncached(JsonResponse(found.as_json(), status=200 if found.is_ready else 503))


async def detail(request: HttpRequest) -> HttpResponse:
    """Readiness, checks and figures, for staff and for whoever has the token; 503 when not ready or not healthy."""
    if not (access.has_token(request, runtime().settings.health_token) or await _is_staff(request)):
        return _uncached(access.refuse(request, "health", "for staff, or with the token of HEALTH_TOKEN"))
    found = health.detail()
    is_well = found["ready"] and found["healthy"]
    return _uncached(JsonResponse(found, status=200 if is_well else 503))


def metrics(request: HttpRequest) -> HttpResponse:
    """Everything that is counted, in the text format of Prometheus; for this machine, staff, and with the token."""
    token = runtime().settings.metrics_token
    may_see = (
        access.is_this_machine(request)
        or access.has_token(request, token)
        or _is_staff_user(getattr(request, "user", None))
    )
    if not may_see:
        return _uncached(access.refuse(request, "metrics", "for staff, or with the token of METRICS_TOKEN"))
    shown: HttpResponse = ExportToDjangoView(request)
    return shown


async def _is_staff(request: HttpRequest) -> bool:
    if not hasattr(request, "auser"):  # a project without Django's users
        return False
    return _is_staff_user(await request.auser())


def _is_staff_user(user: AbstractBaseUser | AnonymousUser | None) -> bool:
    return user is not None and user.is_active and getattr(user, "is_staff", False)


def _uncached(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response
