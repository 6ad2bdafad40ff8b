"""Nodes on uvicorn for single tests."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.conftest import CLUSTERS
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer
from tests.support.uvicorn import add_uvicorn

LOOPS = ["asyncio", "uvloop"]

StartNode = Callable[..., DaphneNode]


@pytest.fixture
def start_node(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[StartNode]:
    """Starts a node on uvicorn that the test may stop: `start_node("--loop", "uvloop", environment={…})`."""
    clusters = request.node.stash.setdefault(CLUSTERS, [])

    def start(
        *arguments: str,
        redis: RedisServer | None = None,
        environment: dict[str, str] | None = None,
        application: str = "config.asgi:application",
    ) -> DaphneNode:
        cluster = Cluster((redis or redis_server).url, nodes=0, environment=environment)
        clusters.append(cluster)
        node = add_uvicorn(cluster, *arguments, application=application)
        cluster.start()
        return node

    yield start
    for cluster in clusters:
        cluster.stop()


@dataclass(frozen=True)
class Certificate:
    """A certificate for this machine with its key, signed by itself."""

    file: Path

    def trusted(self) -> ssl.SSLContext:
        """A client's context that believes it."""
        return ssl.create_default_context(cafile=self.file)


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """One that was just made."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return Certificate(file)
