"""The demo page. Everything that moves on it comes over the WebSocket; this only renders the frame."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.templatetags.static import static
from django.views.decorators.http import require_safe

from realtime import conf

WEBSOCKET_PATH = "/ws/"
SOCKETIO_SCRIPT = "demo/socket.io.min.js"  # the official client, as its package has it

# What people call a channel layer; any other is shown by the name of its class.
BACKPLANES = {
    "realtime.layers.redis.RedisChannelLayer": "Redis",
    "realtime.layers.rabbitmq.RabbitmqChannelLayer": "RabbitMQ",
    "realtime.layers.kafka.KafkaChannelLayer": "Kafka",
    "realtime.layers.memory.MemoryChannelLayer": "Memory (one process)",
    "channels.layers.InMemoryChannelLayer": "Memory (one process)",
    "channels_redis.core.RedisChannelLayer": "Redis (channels_redis.core)",
    "channels_redis.pubsub.RedisPubSubChannelLayer": "Redis (channels_redis.pubsub)",
}


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The page; its script reads `config` from a JSON block, so that no script is inline."""
    config = {"url": WEBSOCKET_PATH, "socketio": static(SOCKETIO_SCRIPT), "backplane": backplane_name()}
    return render(request, "demo/index.html", {"config": config})


def backplane_name() -> str:
    """What carries messages between the nodes, in words for people."""
    backend: str = settings.CHANNEL_LAYERS[conf.current().layer]["BACKEND"]
    return BACKPLANES.get(backend) or backend.rpartition(".")[2]
