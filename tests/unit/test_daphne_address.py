"""Where a node on daphne is reached by itself."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port

from realtime.server.daphne_hooks import DaphneHooks


def test_a_port_that_is_closed_has_no_address() -> None:
    """While the node ends somebody may still ask, as its own health check does."""
    hooks = DaphneHooks(cast(Any, None))
    hooks._ports.append(Port(0, cast(Any, Factory()), reactor=cast(Any, object())))
    assert hooks._find_address() is None
