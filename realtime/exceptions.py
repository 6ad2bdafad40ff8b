"""The root of every exception that this package raises on purpose."""


class RealtimeError(Exception):
    """Something that the realtime application refuses or cannot do."""


class BackplaneUnavailable(RealtimeError):
    """The backplane is not known to have taken it; it may still arrive, and a retry may duplicate it."""


class NodeNotRunning(RealtimeError):
    """This process serves no connections: its node has not started yet, is draining, or has stopped."""
