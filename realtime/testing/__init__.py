"""For the tests of projects that use this: clients, faults, time and assertions. docs/testing.md shows them.

    class OrderTests(TestCase):
        async def test_a_paid_order_is_told(self):
            async with RealtimeClient(user=self.alice) as client:
                await client.join("orders")
                await sync_to_async(self.order.pay)()
                assert (await client.next("room"))["data"] == {"order": self.order.pk}

Everything runs in the process and the transaction of the test, through the project's own ASGI application, without a
server, a port or a backplane.
"""

from realtime.testing.client import Closed, ConnectionDenied, RealtimeClient, Refused
from realtime.testing.clock import FakeClock
from realtime.testing.layer import FaultyLayer
from realtime.testing.node import RealtimeNode
from realtime.testing.publications import Publication, assert_not_published, assert_published, published

__all__ = [
    "Closed",
    "ConnectionDenied",
    "FakeClock",
    "FaultyLayer",
    "Publication",
    "RealtimeClient",
    "RealtimeNode",
    "Refused",
    "assert_not_published",
    "assert_published",
    "published",
]
