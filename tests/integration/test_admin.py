"""The admin's lists of nodes and connections."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from realtime.models import Connection, Node

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CONNECTIONS = "/admin/realtime/connection/"
NODES = "/admin/realtime/node/"

pytestmark = pytest.mark.django_db


def add_connection(number: int, **values: Any) -> Connection:
    known: dict[str, Any] = {
        "id": f"n1.{number:022d}",
        "node": "n1",
        "transport": "websocket",
        "connected": NOW + timedelta(seconds=number),
        "last_seen": NOW,
    }
    return Connection.objects.create(**{**known, **values})


def add_node(node_id: str = "n1", **values: Any) -> Node:
    known: dict[str, Any] = {
        "started": NOW,
        "last_heartbeat": NOW,
        "state": "ready",
        "statistics": {"connections": 1234},
    }
    return Node.objects.create(id=node_id, **{**known, **values})


def shown(client: Client, url: str) -> list[str]:
    """The ids in the list at ``url``, in its order."""
    response = client.get(url)
    assert response.status_code == 200, response
    return [row.pk for row in response.context["cl"].result_list]


def test_the_admin_login_works(client: Client, admin_user: User) -> None:
    """A superuser logs in through the form and lands on a page that lists both models."""
    form = {"username": "admin", "password": "password", "next": "/admin/"}
    response = client.post(reverse("admin:login"), form, follow=True)
    assert response.status_code == 200
    assert NODES in response.content.decode()
    assert CONNECTIONS in response.content.decode()


@pytest.mark.parametrize("url", [NODES, CONNECTIONS])
def test_strangers_see_nothing(client: Client, url: str) -> None:
    """Without a login both lists send to the login page."""
    assert client.get(url).status_code == 302


def test_staff_may_look_with_permission_only(client: Client, django_user_model: type[User]) -> None:
    """Bob, who may view, sees the lists; charlie, who is staff without the permission, gets 403."""
    bob = django_user_model.objects.create_user("bob", is_staff=True)
    bob.user_permissions.set(Permission.objects.filter(codename__in=["view_node", "view_connection"]))
    charlie = django_user_model.objects.create_user("charlie", is_staff=True)
    for url in (NODES, CONNECTIONS):
        client.force_login(bob)
        assert client.get(url).status_code == 200
        client.force_login(charlie)
        assert client.get(url).status_code == 403


@pytest.mark.parametrize("model", ["node", "connection"])
def test_nobody_changes_rows_by_hand(admin_client: Client, model: str) -> None:
    """Not even a superuser can add, change or delete; the page of a row has no save button."""
    add_node()
    row = add_connection(1)
    pk = "n1" if model == "node" else row.pk
    assert admin_client.get(reverse(f"admin:realtime_{model}_add")).status_code == 403
    assert admin_client.post(reverse(f"admin:realtime_{model}_delete", args=[pk])).status_code == 403
    change = reverse(f"admin:realtime_{model}_change", args=[pk])
    page = admin_client.get(change)
    assert page.status_code == 200
    assert 'name="_save"' not in page.content.decode()
    assert admin_client.post(change, {"node": "other"}).status_code == 403


def test_connections_come_newest_first(admin_client: Client) -> None:
    """The latest connection is on top."""
    ids = [add_connection(number).pk for number in range(3)]
    assert shown(admin_client, CONNECTIONS) == ids[::-1]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?q=n2.", [3]),
        ("?q=ali", [1]),
        ("?q=10.0.0", [1, 2]),
        ("?q=10.0.0.2", [2]),
        ("?q=0.0.2", []),
        ("?q=%25", []),
        ("?q=user:7", [2]),
        ("?q=user:x", []),
        ("?state=live", [1, 3]),
        ("?state=ended", [2]),
        ("?node=n2", [3]),
        ("?node=gone", []),
        ("?transport=socketio", [3]),
        ("?close_code=1001", [2]),
        ("?close_code=x", [1, 2, 3]),
        ("?state=live&q=10.0.0", [1]),
    ],
)
def test_search_and_filters(admin_client: Client, query: str, expected: list[int]) -> None:
    """Prefixes of id, user and address, a user's key, and each filter find what they say, and nothing else."""
    add_node("n2")
    add_connection(1, user_label="alice", remote_address="10.0.0.1")
    add_connection(2, user_id=7, remote_address="10.0.0.2", disconnected=NOW, close_code=1001)
    add_connection(3, id="n2.3", node="n2", transport="socketio", remote_address="192.168.0.1")
    found = shown(admin_client, CONNECTIONS + query)
    assert sorted(pk[-1] for pk in found) == [str(number) for number in expected]


def test_a_broad_search_finds_the_newest(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix of more rows than are counted is found another way: the same rows, the newest first."""
    monkeypatch.setattr("realtime.admin.COUNTED_MAX", 5)
    rows = [add_connection(number, remote_address=f"10.0.0.{number}") for number in range(8)]
    add_connection(9, remote_address="192.168.0.1")
    assert shown(admin_client, CONNECTIONS + "?q=10.0.0") == [row.pk for row in rows[::-1]]


@pytest.mark.parametrize("url", [NODES, CONNECTIONS])
def test_no_query_per_row(admin_client: Client, url: str, django_assert_max_num_queries: Any) -> None:
    """Forty rows, each with a user of its own, cost as many queries as one."""
    for number in range(40):
        add_node(f"n{number}")
        add_connection(number, user=User.objects.create_user(f"user{number}"))
    with django_assert_max_num_queries(10):
        admin_client.get(url)


def test_a_user_who_is_gone_is_shown_by_label(admin_client: Client) -> None:
    """A row whose user was deleted, or never existed here, says what the credential said."""
    add_connection(1, user_id=999_999, user_label="gone-user")
    add_connection(2, user=User.objects.create_user("renamed"), user_label="old-name")
    page = admin_client.get(CONNECTIONS).content.decode()
    assert "gone-user" in page
    assert "renamed" in page


def test_deleting_a_user_keeps_the_rows(admin_client: Client) -> None:
    """A deleted user's connections stay, by label."""
    user = User.objects.create_user("leaver")
    row = add_connection(1, user=user, user_label="leaver")
    user.delete()
    row.refresh_from_db()
    assert (row.user_id, row.user_label) == (None, "leaver")


def test_nodes_show_their_figures(admin_client: Client) -> None:
    """A node's row has its state and the figures of its last heartbeat; filters and search find it."""
    add_node("n1", address="ws://10.0.0.1")
    add_node("n2", state="dead", statistics={})
    page = admin_client.get(NODES).content.decode()
    assert "1,234" in page
    assert shown(admin_client, NODES + "?life=live") == ["n1"]
    assert shown(admin_client, NODES + "?life=ended") == ["n2"]
    assert shown(admin_client, NODES + "?state__exact=dead") == ["n2"]
    assert shown(admin_client, NODES + "?q=ws://10") == ["n1"]


def test_a_node_page_is_made_for_people(admin_client: Client) -> None:
    """A line for each check, with the reason of one that fails, and for each figure; no JSON."""
    checks = [
        {"check": "memory", "is_healthy": False, "reason": "90 MiB <of memory>"},
        {"check": "database", "is_healthy": True, "reason": ""},
    ]
    add_node("n1", health=checks)
    add_node("n2", statistics={})
    page = admin_client.get(f"{NODES}n1/change/").content.decode()
    assert "<li>✗ memory 90 MiB &lt;of memory&gt;</li><li>✓ database </li>" in page
    assert "<li>connections: 1,234</li>" in page
    assert "is_healthy" not in page
    assert "rt-figures" not in admin_client.get(f"{NODES}n2/change/").content.decode()
