"""Views that publish."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.urls import include, path

from realtime.api import apublish_room, publish_private, publish_room
from realtime.exceptions import BackplaneUnavailable


def publish(request: HttpRequest) -> JsonResponse:
    """A synchronous view: Django runs it in a thread."""
    try:
        publish_room(request.GET["room"], request.GET["text"])
        if "to" in request.GET:
            publish_private(request.GET["to"], request.GET["text"])
    except BackplaneUnavailable as error:
        return JsonResponse({"error": str(error)}, status=503)
    return JsonResponse({})


async def apublish(request: HttpRequest) -> JsonResponse:
    """An asynchronous view: it runs in the node's own loop."""
    await apublish_room(request.GET["room"], request.GET["text"])
    return JsonResponse({})


urlpatterns = [path("publish", publish), path("apublish", apublish), path("", include("config.urls"))]
