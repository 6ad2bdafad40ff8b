"""What browsers are told about our pages: a Content-Security-Policy, and which of a device's features they may use.

Scripts and styles come from files of this host alone. Text that a client managed to get into a page stays text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from inspect import iscoroutinefunction
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

POLICY: Mapping[str, str] = {
    "default-src": "'none'",
    "script-src": "'self'",
    "worker-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",  # icons in style sheets of the admin
    "font-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
TECHNICAL_STYLE = "'self' 'unsafe-inline'"
"""With DEBUG on, Django's own pages about a 404 or 500 have their style inside."""
TECHNICAL = frozenset({404, 500})

# A page that is taken over gets nothing that the pages do not use either.
FEATURES = ", ".join(
    f"{feature}=()"
    for feature in (
        "accelerometer",
        "camera",
        "geolocation",
        "gyroscope",
        "magnetometer",
        "microphone",
        "payment",
        "usb",
    )
)


@sync_and_async_middleware
def page_headers(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """The outermost middleware: answers of all others pass through it."""
    if iscoroutinefunction(get_response):
        return _in_async(get_response)
    return _in_sync(get_response)


def _in_async(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    async def respond(request: HttpRequest) -> HttpResponseBase:
        return _with_headers(request, await get_response(request))

    return respond


def _in_sync(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    def respond(request: HttpRequest) -> HttpResponseBase:
        return _with_headers(request, get_response(request))

    return respond


def _with_headers(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    is_technical = settings.DEBUG and response.status_code in TECHNICAL
    response.headers.setdefault("Content-Security-Policy", policy(_host(request), request.is_secure(), is_technical))
    response.headers.setdefault("Permissions-Policy", FEATURES)
    return response


def policy(host: str, is_secure: bool, is_technical: bool = False) -> str:
    """The header for pages of this host (empty: it is none that we serve).

    To some browsers 'self' is no WebSocket: those of this host are named as well.
    """
    directives = dict(POLICY)
    if host:
        directives["connect-src"] += f" wss://{host}" if is_secure else f" ws://{host} wss://{host}"
    if is_technical:
        directives["style-src"] = TECHNICAL_STYLE
    return "; ".join(f"{name} {sources}" for name, sources in directives.items())


def _host(request: HttpRequest) -> str:
    """As the client named it; it has no character that would end a directive."""
    try:
        return request.get_host()
    except DisallowedHost:
        return ""
