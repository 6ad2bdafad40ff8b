"""Two lines in somebody's asgi.py: the import, and the call around their own application."""

import os
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.acceptance.other_project.settings")
django.setup(set_prefix=False)

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.urls import re_path  # noqa: E402

from realtime.routing import realtime_application  # noqa: E402
from tests.acceptance.other_project.consumers import AsyncChat, SyncChat  # noqa: E402

consumers: list[Any] = [("async", AsyncChat.as_asgi()), ("sync", SyncChat.as_asgi())]
routes: list[Any] = [re_path(rf"^chat/{kind}/(?P<group>[^/]+)/$", consumer) for kind, consumer in consumers]
theirs: Any = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": URLRouter(routes)})
application = realtime_application(theirs)
