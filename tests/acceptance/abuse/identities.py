"""Keys, tokens and logins for attacks on the identity of clients."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.acceptance.nodes import get
from tests.support.cluster import Cluster, DaphneNode, run_manage

PASSWORD = "a password for tests"
SECRET = "a-secret-of-the-abuse-suite-alone-0123456789"
PRODUCTION = {
    "REALTIME_DEFAULTS": "production",
    "REALTIME_TRACKING_FLUSH_SECONDS": "0.2",
    "REALTIME_SESSION_CHECK_SECONDS": "0",  # what ends a connection here was told, not looked up
}
PEOPLE = f"""
from django.contrib.auth.models import User
from django.contrib.auth.hashers import make_password
hashed = make_password({PASSWORD!r})
for name in ("ann", "ben", "cleo", "dan"):
    print(User.objects.create(username=name, password=hashed, is_staff=True, is_superuser=True).pk)
"""
NAMES = ("ann", "ben", "cleo", "dan")


class Keys:
    """A secret and two pairs of keys: the nodes have the secret and what is public."""

    def __init__(self, directory: Path) -> None:
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        kind = serialization.PublicFormat.SubjectPublicKeyInfo
        self.public_rsa = self.rsa.public_key().public_bytes(serialization.Encoding.PEM, kind)
        public_ec = self.ec.public_key().public_bytes(serialization.Encoding.PEM, kind)
        (directory / "rsa.pem").write_bytes(self.public_rsa)
        (directory / "ec.pem").write_bytes(public_ec)
        (directory / "secret").write_text(SECRET)
        files = [f"file:{directory}/secret", f"kid:r1:file:{directory}/rsa.pem", f"file:{directory}/ec.pem"]
        self.setting = {"REALTIME_TOKEN_KEYS": ",".join(files)}


def token(user: object, signer: Any = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """A token that is good for a minute."""
    headers = {"kid": claims.pop("kid")} if "kid" in claims else None
    whole = {"sub": str(user), "exp": time.time() + 60, **claims}
    return jwt.encode({k: v for k, v in whole.items() if v is not None}, signer, algorithm=algorithm, headers=headers)


def part(value: object) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forged_with(secret: bytes, user: object) -> str:
    """A token of HS256 whose secret is whatever one likes, a public key too."""
    head, body = part({"alg": "HS256", "typ": "JWT"}), part({"sub": str(user), "exp": time.time() + 60})
    signature = jwt.get_algorithm_by_name("HS256").sign(f"{head}.{body}".encode(), secret)
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def add_people(cluster: Cluster) -> dict[str, str]:
    """Write the people into the cluster's database; their primary keys by name."""
    done = run_manage(cluster.environment, "shell", "-v", "0", "-c", PEOPLE)
    assert done.returncode == 0, done.stderr
    return dict(zip(NAMES, done.stdout.split(), strict=True))


class Browser:
    """Somebody at a node's admin. Its calls block."""

    def __init__(self, node: DaphneNode, name: str) -> None:
        self.http = httpx.Client(base_url=node.http_url, timeout=20, trust_env=False)
        self.post("/admin/login/", username=name, password=PASSWORD, next="/admin/")

    def post(self, path: str, **fields: str) -> None:
        """A form that is taken."""
        self.http.get("/admin/login/")
        said = {**fields, "csrfmiddlewaretoken": self.http.cookies["csrftoken"]}
        answer = self.http.post(path, data=said, headers={"Referer": str(self.http.base_url)})
        assert answer.status_code in (200, 302), answer.text
        assert "errorlist" not in answer.text, answer.text

    @property
    def key(self) -> str:
        """That of its session."""
        return self.http.cookies["sessionid"]

    @property
    def headers(self) -> dict[str, str]:
        """What its WebSockets carry."""
        return {"Cookie": f"sessionid={self.key}"}

    def close(self) -> None:
        self.http.close()


def sample(node: DaphneNode, name: str) -> float:
    """One sample of a metric, by its name with its labels."""
    lines = (line.rpartition(" ") for line in get(f"{node.http_url}/metrics").splitlines())
    return next(float(value) for each, _, value in lines if each == name)
