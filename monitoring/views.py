"""Health for balancers and people. Metrics come from django-prometheus's own view."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse

from monitoring import health
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
    if not (_has_token(request) or await _is_staff(request)):
        return _uncached(JsonResponse({"error": "for staff, or with the token of HEALTH_TOKEN"}, status=403))
    found = health.detail()
    is_well = found["ready"] and found["healthy"]
    return _uncached(JsonResponse(found, status=200 if is_well else 503))


def _has_token(request: HttpRequest) -> bool:
    return health.is_token(request.headers.get("Authorization", ""), runtime().settings.health_token)


async def _is_staff(request: HttpRequest) -> bool:
    if not hasattr(request, "auser"):  # a project without Django's users
        return False
    user = await request.auser()
    return user.is_active and user.is_staff


def _uncached(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response
