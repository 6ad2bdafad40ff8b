"""Settings of the stock Channels project. PEER_LAYER: core, pubsub or none (no channel layer at all)."""

import os

SECRET_KEY = "benchmark"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["daphne", "channels"]
ASGI_APPLICATION = "benchmarks.peers.stock.asgi.application"
USE_TZ = True

_BACKENDS = {
    "core": "channels_redis.core.RedisChannelLayer",
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
}
_LAYER = os.environ.get("PEER_LAYER", "core")
CHANNEL_LAYERS = (
    {"default": {"BACKEND": _BACKENDS[_LAYER], "CONFIG": {"hosts": [os.environ["REDIS_URL"]]}}}
    if _LAYER in _BACKENDS
    else {}
)
