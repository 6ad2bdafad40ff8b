"""Who has answered, who is silent, and what a list over several nodes says."""

from __future__ import annotations

import pytest

from realtime.cluster import connection_list, node_list, outcome, room_list
from realtime.inquiries import Gathering, Inquiries
from realtime.orders import first_names
from realtime.protocol.envelope import Answer, ConnectionInfo


def answer(node: str, **fields: object) -> Answer:
    return Answer(v=1, node=node, request="r", **fields)  # type: ignore[arg-type]


def connections(*names: str) -> list[ConnectionInfo]:
    return [ConnectionInfo(id=name, node=name.partition(".")[0]) for name in names]


async def test_everybody_known_has_to_answer() -> None:
    """The last part of the last node completes it."""
    gathering = Gathering(["a", "b"], grows=True)
    gathering.published(2)
    gathering.came(answer("a"))
    gathering.came(answer("b", is_last=False))
    assert not gathering.is_complete
    assert gathering.silent == {"b"}
    gathering.came(answer("b"))
    assert gathering.is_complete
    assert gathering.silent == set()


async def test_an_answer_names_nodes_that_should_answer_too() -> None:
    """An asker without a table of nodes learns from the first answer who is silent."""
    gathering = Gathering(grows=True)
    gathering.published(None)
    gathering.came(answer("a", others=["b"]))
    await gathering.wait(0.01)
    assert (gathering.is_complete, gathering.silent, gathering.missing) == (False, frozenset("b"), 1)


async def test_a_subscriber_without_a_name_is_missing() -> None:
    """The backplane says that two heard the question; nobody knows the second."""
    gathering = Gathering(grows=True)
    gathering.came(answer("a"))
    gathering.published(2)
    assert (gathering.is_complete, gathering.silent, gathering.missing) == (False, frozenset(), 1)
    gathering.expect(["b"])
    assert (gathering.silent, gathering.missing) == (frozenset("b"), 1)


async def test_a_young_node_does_not_know_everybody() -> None:
    """Where nobody counts subscribers, its answer alone is not believed to be all."""
    gathering = Gathering(grows=True)
    gathering.published(None)
    gathering.came(answer("a", is_settled=False))
    assert not gathering.is_complete
    gathering.came(answer("b", others=["a"]))
    assert gathering.is_complete


async def test_an_order_that_nobody_heard_is_waited_for_no_longer() -> None:
    """The node is not there; that is no silence."""
    gathering = Gathering(["gone"], grows=False)
    gathering.published(0)
    assert gathering.is_complete
    done = outcome(gathering)
    assert (done.count, done.is_partial, done.silent, done.refusals) == (0, False, (), ("gone: no such node",))


async def test_a_users_nodes_are_counted() -> None:
    """As many answers as nodes heard it; their counts add up."""
    gathering = Gathering(grows=False)
    gathering.came(answer("a", total=2))
    gathering.published(2)
    assert not gathering.is_complete
    gathering.came(answer("b", total=1))
    assert gathering.is_complete
    assert (outcome(gathering).count, outcome(gathering).is_partial) == (3, False)


async def test_a_refusal_is_told() -> None:
    """For an order as a reason, for a list as a node that said nothing."""
    gathering = Gathering(["a"], grows=True)
    gathering.came(answer("a", refusal="busy"))
    gathering.published(1)
    assert outcome(gathering).refusals == ("a: busy",)
    assert (node_list(gathering).silent, node_list(gathering).is_partial) == (("a",), True)


async def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    """It came too late, or is a forgery."""
    inquiries, gathering = Inquiries(), Gathering(["a"], grows=False)
    inquiries.begin(gathering)
    inquiries.came(answer("a", total=1))
    assert gathering.answers == []
    inquiries.came(Answer(v=1, node="a", request=gathering.request, total=1))
    assert [each.total for each in gathering.answers] == [1]
    inquiries.end(gathering)
    assert len(inquiries) == 0


async def test_connections_of_several_nodes_and_parts_are_one_page() -> None:
    """By id, with the totals of each node once, and whether a page follows."""
    gathering = Gathering(["a", "b"], grows=True)
    gathering.came(answer("b", total=2, connections=connections("b.1", "b.2")))
    gathering.came(answer("a", total=3, connections=connections("a.2"), is_last=False))
    gathering.came(answer("a", total=3, connections=connections("a.1")))
    gathering.published(2)
    page = connection_list(gathering, 3)
    assert [each.id for each in page.connections] == ["a.1", "a.2", "b.1"]
    assert (page.total, dict(page.by_node), page.has_more, page.is_partial) == (5, {"a": 3, "b": 2}, True, False)
    assert not connection_list(gathering, 4).has_more


async def test_the_members_of_a_room_are_counted_over_the_nodes() -> None:
    """Each room once."""
    gathering = Gathering(["a", "b"], grows=True)
    gathering.came(answer("a", total=2, rooms={"x": 1, "y": 2}))
    gathering.came(answer("b", total=1, rooms={"x": 5}))
    gathering.published(2)
    found = room_list(gathering, 1)
    assert [(room.name, room.members, dict(room.by_node)) for room in found.rooms] == [("x", 6, {"a": 1, "b": 5})]
    assert found.has_more
    assert [room.name for room in room_list(gathering, 2).rooms] == ["x", "y"]


@pytest.mark.parametrize(
    ("limit", "after", "prefix", "expected"),
    [
        (3, "", "", (["n00000", "n00001", "n00002"], 5_000)),
        (2, "n04998", "", (["n04999"], 5_000)),
        (2, "n04991", "n0499", (["n04992", "n04993"], 10)),
        (0, "", "", ([], 5_000)),
        (3, "", "m", ([], 0)),
    ],
)
async def test_the_first_names_of_many(limit: int, after: str, prefix: str, expected: tuple[list[str], int]) -> None:
    """In their order, after the page before, over slices; the total does not depend on the page."""
    names = [f"n{number:05}" for number in reversed(range(5_000))]
    assert await first_names(names, limit, after, prefix) == expected
