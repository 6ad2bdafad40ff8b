"""Our settings with a project of its own; STOCK_LAYER puts a layer of channels_redis under the nodes."""

import os
from typing import Any

from config.settings import *  # noqa: F403
from config.settings import CHANNEL_LAYERS as OURS

ROOT_URLCONF = "tests.acceptance.other_project.urls"

# Modules of channels_redis, by their last name; nothing else changes with the layer.
_layer = os.environ.get("STOCK_LAYER", "")
if _layer:
    _options: dict[str, Any] = {"pubsub": {}, "core": {"capacity": 100_000}}[_layer]
    if "STOCK_GROUP_EXPIRY" in os.environ:
        _options["group_expiry"] = int(os.environ["STOCK_GROUP_EXPIRY"])
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": f"channels_redis.{_layer}.Redis{'PubSub' if _layer == 'pubsub' else ''}ChannelLayer",
            "CONFIG": {**OURS["default"]["CONFIG"], **_options},
        }
    }
