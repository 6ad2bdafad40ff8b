"""Our application without its metrics: what counting costs is the difference."""

from __future__ import annotations

from config.asgi import application
from realtime.instrument import Instrument
from realtime.runtime import set_instrument

__all__ = ["application"]

set_instrument(Instrument())
