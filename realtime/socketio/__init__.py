"""Socket.IO clients: the transports, the sessions, and the hook for a project's own events."""

from realtime.socketio.client import Client
from realtime.socketio.events import ConnectionRefused, on, on_connect, on_connecting, on_disconnect

__all__ = ["Client", "ConnectionRefused", "on", "on_connect", "on_connecting", "on_disconnect"]
