"""Private messages whose recipient's node does not answer."""

from __future__ import annotations

from tests.acceptance.engine.peer import command
from tests.acceptance.engine.wire import Wire, pump
from tests.acceptance.limits.conftest import NewPeer, StartNodes

SENT = 2_000
UNANSWERED_MAX = 1_024


def test_unconfirmed_private_messages_are_bounded(start_nodes: StartNodes, new_peer: NewPeer) -> None:
    """Who sends thousands to a node that stands still is not read while 1,024 of them wait for their confirmation: a
    command behind them is answered after most of them have got `unknown_recipient`."""
    cluster = start_nodes("daphne", "daphne", RECEIPT_TIMEOUT_SECONDS=1)
    own, other = cluster.nodes
    sender, recipient = Wire(new_peer(own)), new_peer(other)
    own.wait_until(lambda: "node_appeared" in own.log, "acquainted")
    other.pause()
    for index in range(SENT):
        sender.send(command("private", to=recipient.id, data=index, ref=index))
    sender.send(command("ping", ref="behind"))
    pump([sender], lambda: b'{"type":"pong","ref":"behind"}' in sender.texts, "the answer behind them", 40)
    other.resume()
    before = sender.messages("error", "pong")
    assert [message["type"] for message in before].index("pong") >= SENT - UNANSWERED_MAX - 1
    assert {message["code"] for message in before if message["type"] == "error"} == {"unknown_recipient"}
