"""ASGI entry point of the stock Channels project."""

import os

import django
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.peers.stock.settings")
django.setup()

from benchmarks.peers.stock.consumers import ChatConsumer  # noqa: E402

application = ProtocolTypeRouter(
    {"websocket": URLRouter([path("ws/", ChatConsumer.as_asgi())])}  # type: ignore[list-item, arg-type]
)
