"""Health for balancers and people. Metrics come from django-prometheus's own view."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse

from monitoring import health


async def live(request: HttpRequest) -> HttpResponse:
    """200: the loop turns and Django answers."""
    return _uncached(JsonResponse({"live": True}))


async def ready(request: HttpRequest) -> HttpResponse:
    """200 when a balancer should send clients here, else 503 with the reason."""
    found = health.readiness()
    return _uncached(JsonResponse(found.as_json(), status=200 if found.is_ready else 503))


async def detail(request: HttpRequest) -> HttpResponse:
    """Readiness and figures, for staff; 503 when not ready."""
    user = await request.auser()
    if not (user.is_active and user.is_staff):
        return _uncached(JsonResponse({"error": "for staff only"}, status=403))
    found = health.detail()
    return _uncached(JsonResponse(found, status=200 if found["ready"] else 503))


def _uncached(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response
