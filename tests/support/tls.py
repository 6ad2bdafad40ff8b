"""A certificate that a proxy shows, and what its clients do with it."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from tests.support.certificates import make_certificate


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and its key, and what a client does with them."""

    certificate: Path
    key: Path
    both: Path  # one file with the two, as HAProxy wants it

    def trusting(self) -> ssl.SSLContext:
        """For a client that trusts this certificate alone."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def protocol(self, port: int, *offered: str) -> str | None:
        """What the server on the port chooses of the offered protocols."""
        context = self.trusting()
        context.set_alpn_protocols(list(offered))
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
            context.wrap_socket(connection, server_hostname="localhost") as encrypted,
        ):
            return encrypted.selected_alpn_protocol()


def self_signed(directory: Path) -> Pair:
    """A fresh one for localhost."""
    certificate, key = make_certificate(directory)
    both = directory / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    return Pair(certificate, key, both)
