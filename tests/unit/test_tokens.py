"""Tokens: which are good, which are not, and what a key may be."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pytest_django import Settings

from realtime.auth import issue_token, read_token, signing_keys
from realtime.conf import BadSetting, current, load
from realtime.tokens import BadKey, BadToken, TokenRules, read_key, read_keys

SECRET = "a-secret-of-this-test-alone-0123456789"
OTHER_SECRET = "another-secret-of-this-test-0123456789"
PRIVATE = serialization.PrivateFormat.PKCS8
PLAIN = serialization.NoEncryption()


def private_pem(key: Any, encryption: serialization.KeySerializationEncryption = PLAIN) -> str:
    return str(key.private_bytes(serialization.Encoding.PEM, PRIVATE, encryption).decode())


def public_pem(key: Any) -> str:
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(serialization.Encoding.PEM, kind).decode())


RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
SIGNERS: dict[str, tuple[Any, str]] = {
    "HS256": (SECRET, SECRET),
    "RS256": (RSA_KEY, public_pem(RSA_KEY)),
    "ES256": (EC_KEY, public_pem(EC_KEY)),
}


def rules(*keys: str, **options: Any) -> TokenRules:
    return TokenRules(read_keys(keys or (SECRET,)), **options)


def token(signer: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token of user 7 that is good for a minute; a claim that is None is left out."""
    whole = {"sub": "7", "exp": time.time() + 60, **claims}
    present = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(present, signer, algorithm=algorithm, headers=headers)


def refusal(of: TokenRules, text: str) -> str:
    with pytest.raises(BadToken) as caught:
        of.read(text)
    assert len(text) < 3 or text not in str(caught.value)
    return caught.value.reason


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_a_good_token_names_its_user(algorithm: str) -> None:
    """By each of the three algorithms, with the public key where there is one."""
    signer, key = SIGNERS[algorithm]
    claims = rules(key).read(token(signer, algorithm))
    assert claims.user == "7"
    assert 55 < claims.expires_at - time.time() <= 60


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_the_algorithm_is_that_of_the_key(algorithm: str) -> None:
    """A token of another algorithm is refused before anything is computed."""
    others = [key for name, (_, key) in SIGNERS.items() if name != algorithm]
    assert refusal(rules(*others), token(*(SIGNERS[algorithm][0], algorithm))) == "algorithm"


def test_a_public_key_is_no_secret() -> None:
    """HS256 with the text of the public key as the secret, which everybody may know."""
    secret = public_pem(RSA_KEY).encode()
    head, body = segment({"alg": "HS256", "typ": "JWT"}), segment({"sub": "1", "exp": time.time() + 60})
    signature = jwt.get_algorithm_by_name("HS256").sign(f"{head}.{body}".encode(), secret)
    forged = f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    assert refusal(rules(public_pem(RSA_KEY)), forged) == "algorithm"
    assert refusal(rules(public_pem(RSA_KEY), SECRET), forged) == "signature"


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", "HS512", "RS512", "PS256", 7, None, ["HS256"]])
def test_no_signature_is_no_token(name: Any) -> None:
    """`alg: none` in any spelling, and whatever else no key is for."""
    unsigned = f"{segment({'alg': name})}.{segment({'sub': '1', 'exp': time.time() + 60})}."
    every_kind = rules(*(key for _, key in SIGNERS.values()))
    assert refusal(every_kind, unsigned) == "algorithm"


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_a_signature_of_somebody_else(algorithm: str) -> None:
    """With another key of the same kind."""
    others = {"HS256": OTHER_SECRET, "RS256": OTHER_RSA_KEY, "ES256": ec.generate_private_key(ec.SECP256R1())}
    assert refusal(rules(SIGNERS[algorithm][1]), token(others[algorithm], algorithm)) == "signature"


def test_a_changed_token() -> None:
    """The claims of one, the signature of another."""
    head, _, signature = token().split(".")
    assert refusal(rules(), f"{head}.{segment({'sub': '1', 'exp': time.time() + 60})}.{signature}") == "signature"


def test_times() -> None:
    """An end is required; past ends are refused, and future beginnings beyond the leeway."""
    now = time.time()
    assert refusal(rules(), token(exp=None)) == "claims"
    assert refusal(rules(), token(exp=now - 2)) == "expired"
    assert refusal(rules(), token(nbf=now + 60)) == "not_yet_valid"
    assert refusal(rules(), token(iat=now + 60)) == "not_yet_valid"
    tolerant = rules(leeway_seconds=30)
    assert refusal(tolerant, token(exp=now - 1)) == "expired"
    assert tolerant.read(token(nbf=now + 20)).user == "7"
    assert refusal(tolerant, token(exp=now - 40)) == "expired"
    assert refusal(tolerant, token(nbf=now + 90)) == "not_yet_valid"
    unusable: Any
    for unusable in ("soon", [1], float("inf"), 1e400, {}):
        assert refusal(rules(), token(exp=unusable)) in ("claims", "malformed")


def test_the_audience() -> None:
    """It must be ours, if there is one; a token for somebody else is refused also where none is set."""
    ours = rules(audience="chat")
    assert ours.read(token(aud="chat")).user == "7"
    assert ours.read(token(aud=["mail", "chat"])).user == "7"
    assert refusal(ours, token(aud="mail")) == "audience"
    assert refusal(ours, token()) == "claims"
    assert refusal(rules(), token(aud="mail")) == "audience"


def test_the_issuer() -> None:
    """It must be ours, if that is set."""
    ours = rules(issuer="https://id.example")
    assert ours.read(token(iss="https://id.example")).user == "7"
    assert refusal(ours, token(iss="https://evil.example")) == "issuer"
    assert refusal(ours, token()) == "claims"
    assert rules().read(token(iss="anybody")).user == "7"


@pytest.mark.parametrize("user", [None, "", 7, "a" * 256, "a\nb", "a\0", "\ud800", ["7"], True])
def test_users_that_cannot_be(user: Any) -> None:
    """The subject is a text of 1 to 255 printable characters."""
    assert refusal(rules(), token(sub=user)) == "claims"


def test_rotation() -> None:
    """Tokens of the old key are good as long as it is there; new ones are signed with the newest."""
    both = rules(OTHER_SECRET, SECRET)
    assert both.read(token(SECRET)).user == both.read(token(OTHER_SECRET)).user == "7"
    assert rules(OTHER_SECRET).read(both.issue(8, 60)).user == "8"
    assert refusal(rules(OTHER_SECRET), token(SECRET)) == "signature"


def test_key_ids() -> None:
    """A token with a `kid` is checked with that key alone; one of an unknown key is refused, unless a key has no id."""
    named = rules(f"kid:new:{OTHER_SECRET}", f"kid:old:{SECRET}")
    assert named.read(token(SECRET, headers={"kid": "old"})).user == "7"
    assert refusal(named, token(SECRET, headers={"kid": "new"})) == "signature"
    assert refusal(named, token(SECRET, headers={"kid": "gone"})) == "unknown_key"
    assert named.read(token(SECRET)).user == "7"
    assert jwt.get_unverified_header(named.issue(7, 60))["kid"] == "new"
    assert rules(SECRET).read(token(SECRET, headers={"kid": "whatever"})).user == "7"


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "a.b.c", "..", "e30.e30.e30", "a" * 8193, "é.é.é", "\0.\0.\0", " ", f"{'[' * 3000}.x.y",
        f"{base64.urlsafe_b64encode(b'[' * 4000).decode()}.e30.e30",
        f"{segment({'alg': 'HS256', 'b64': False})}.e30.e30",
        f"{segment({'alg': 'HS256', 'crit': ['x']})}.e30.e30",
        f"{segment({'alg': 'HS256', 'kid': 7})}.e30.e30",
        f"{segment('text')}.e30.e30",
    ],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
def test_texts_that_are_no_tokens(text: str) -> None:
    """Refused by a BadToken and nothing else."""
    refusal(rules(), text)


def test_claims_that_are_no_object() -> None:
    """Also when they are signed."""
    head = segment({"alg": "HS256"})
    for body in ("e30", segment([1]), "bm8", base64.urlsafe_b64encode(b"[" * 5000).decode().rstrip("=")):
        signature = jwt.get_algorithm_by_name("HS256").sign(f"{head}.{body}".encode(), SECRET.encode())
        refusal(rules(), f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("short", "5 bytes"),
        ("  ", "0 bytes"),
        ("file:/no/such/file", "cannot be read"),
        ("-----BEGIN PUBLIC KEY-----\nno\n-----END PUBLIC KEY-----", "no public or private key"),
        ("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----", "no public or private key"),
        (private_pem(RSA_KEY, serialization.BestAvailableEncryption(b"x")), "encrypted"),
        (public_pem(rsa.generate_private_key(65537, 1024)), "1024 bits"),
        (public_pem(ec.generate_private_key(ec.SECP384R1())), "P-256"),
        ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ", "other than PEM"),
    ],
)
def test_keys_that_cannot_be_used(text: str, problem: str) -> None:
    """They stop the start, with a line that names the entry and not the key."""
    with pytest.raises(BadSetting, match=problem) as caught:
        load({"TOKEN_KEYS": [SECRET, f"kid:b:{text}"]})
    assert (caught.value.name, "key 2" in str(caught.value)) == ("TOKEN_KEYS", True)
    assert not text or text.startswith("file:") or text not in str(caught.value)


def test_two_keys_of_one_name() -> None:
    """Nobody could tell which is meant."""
    with pytest.raises(BadSetting, match="same kid"):
        load({"TOKEN_KEYS": [f"kid:a:{SECRET}", f"kid:a:{OTHER_SECRET}"]})


def test_keys_in_files_and_lines(tmp_path: Path) -> None:
    """A file has a secret or PEM; in one line the breaks of PEM are written as two characters."""
    secret, pem = tmp_path / "secret", tmp_path / "key.pem"
    secret.write_text(f"{SECRET}\n")
    pem.write_text(private_pem(EC_KEY))
    assert rules(f"kid:s:file:{secret}").read(token(headers={"kid": "s"})).user == "7"
    assert rules(f"file:{pem}").read(token(EC_KEY, "ES256")).user == "7"
    in_one_line = public_pem(EC_KEY).replace("\n", "\\n")
    assert rules(in_one_line).read(token(EC_KEY, "ES256")).user == "7"


def test_what_signs() -> None:
    """The first key that can: a public one only checks."""
    private = private_pem(RSA_KEY)
    issued = rules(public_pem(EC_KEY), private, SECRET).issue(9, 60)
    assert jwt.get_unverified_header(issued)["alg"] == "RS256"
    assert rules(public_pem(RSA_KEY)).read(issued).user == "9"
    with pytest.raises(BadKey, match="sign"):
        rules(public_pem(RSA_KEY)).issue(9, 60)


def test_keys_do_not_show_themselves() -> None:
    """A key in a traceback or a log is its kind and id."""
    assert repr(read_key(f"kid:a:{SECRET}")) == "TokenKey(HS256, id='a')"
    assert SECRET not in repr(rules())


def test_the_projects_settings(settings: Settings) -> None:
    """Audience and issuer are in what is issued; without keys it is SECRET_KEY, and its fallbacks check as well."""
    settings.REALTIME = {"TOKEN_KEYS": [SECRET], "TOKEN_AUDIENCE": "chat", "TOKEN_ISSUER": "us"}
    claims = jwt.decode(issue_token(7), SECRET, algorithms=["HS256"], audience="chat")
    assert (claims["sub"], claims["iss"], claims["exp"] - claims["iat"]) == ("7", "us", 3600)
    assert read_token(issue_token(7), current()).user == "7"
    settings.REALTIME = {}
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = OTHER_SECRET, [SECRET, "short"]
    assert signing_keys(current()) == (OTHER_SECRET, SECRET)
    assert read_token(issue_token(7), current()).user == read_token(token(SECRET), current()).user == "7"
    assert read_token(token(), current()).session is None
