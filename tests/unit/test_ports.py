"""Ports for servers that are started here."""

from __future__ import annotations

import socket

import pytest

from devtools import ports
from devtools.ports import END, FIRST, HOST, free_port, free_ports_in_a_row, is_free


def test_a_port_is_given_once() -> None:
    given = [free_port() for _ in range(50)]
    assert len(set(given)) == 50
    assert all(FIRST <= port < END for port in given)


def test_a_taken_port_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_ports_in_a_row(4)
    monkeypatch.setattr(ports, "_candidates", iter(range(first, END)))
    with socket.create_server((HOST, first + 1)):
        assert not is_free(first + 1)
        assert free_ports_in_a_row(2) == first + 2
