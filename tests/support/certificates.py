"""A certificate for `localhost` that a test makes and trusts."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


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
    """A fresh one, valid from yesterday until tomorrow."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pair = Pair(directory / "tls-certificate.pem", directory / "tls-key.pem", directory / "tls.pem")
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pair.certificate.write_bytes(pem)
    pair.key.write_bytes(private)
    pair.both.write_bytes(pem + private)
    return pair
