"""Ports for servers that are started here."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from devtools import ports
from devtools.ports import END, FIRST, HOST, end_of_servers, free_port, free_ports_in_a_row, is_free


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


@pytest.mark.parametrize(
    ("told", "end"), [("32768\t60999\n", 32_768), ("16000 65535\n", 16_000), ("1024 65535\n", 32_768), ("", 32_768)]
)
def test_what_kernels_give_to_clients_is_left_to_them(tmp_path: Path, told: str, end: int) -> None:
    """Ports end where that range begins, unless too few would be left."""
    (tmp_path / "range").write_text(told)
    assert end_of_servers(tmp_path / "range") == end
    assert end_of_servers(tmp_path / "no such file") == 32_768
