"""A WebSocket cluster as a Django Channels application.

Public entry points: ``realtime.api`` (publish from any Django code), ``realtime.routing`` (wrap an ASGI application)
and ``realtime.conf`` (settings). ARCHITECTURE.md has the map of the rest.
"""

__version__ = "0.1.0"
