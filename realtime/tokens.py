"""Tokens: JSON Web Tokens, and the keys that sign and check them.

What a key is decides the algorithm, never what a token says of itself: a secret is for HS256, an RSA key for RS256, a
key on the curve P-256 for ES256. Neither keys nor tokens are ever in the text of an exception.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from realtime.exceptions import RealtimeError

SECRET_LEAST_BYTES: Final = 32
"""RFC 7518 section 3.2: as long as the hash."""
RSA_LEAST_BITS: Final = 2048
USER_MAX_CHARACTERS: Final = 255
TOKEN_MAX_CHARACTERS: Final = 8192

FILE: Final = "file:"
_WITH_ID = re.compile(r"kid:(?P<id>[A-Za-z0-9_.-]{1,64}):(?P<key>.+)", re.DOTALL)


class BadKey(RealtimeError):
    """A key that cannot sign or check tokens."""


class BadToken(RealtimeError):
    """A token that is not valid. ``reason`` is one of REASONS, for metrics; the message is for its owner."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


REASONS: Final = (
    "malformed",
    "algorithm",
    "unknown_key",
    "signature",
    "expired",
    "not_yet_valid",
    "audience",
    "issuer",
    "claims",
)
"""Why a token is not valid."""

_REASON_OF: Final[tuple[tuple[type[Exception], str], ...]] = (
    (jwt.ExpiredSignatureError, "expired"),
    (jwt.ImmatureSignatureError, "not_yet_valid"),
    (jwt.InvalidSignatureError, "signature"),
    (jwt.InvalidAudienceError, "audience"),
    (jwt.InvalidIssuerError, "issuer"),
    (jwt.InvalidAlgorithmError, "algorithm"),
    (jwt.DecodeError, "malformed"),
    (jwt.InvalidTokenError, "claims"),
)


@dataclass(frozen=True, slots=True, repr=False)
class TokenKey:
    """One key. ``signing`` is None for a public one; ``id`` is the ``kid`` of its tokens, None when it has none."""

    algorithm: str
    checking: Any
    signing: Any
    id: str | None = None

    def __repr__(self) -> str:
        return f"TokenKey({self.algorithm}, id={self.id!r})"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says."""

    user: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class TokenRules:
    """Which tokens are valid: signed with one of ``keys`` (newest first), for ``audience``, by ``issuer``.

    A token that names an audience is refused where none is set: it was made for somebody else. The leeway is for tokens
    that have not begun; when one ends it ends.
    """

    keys: tuple[TokenKey, ...]
    audience: str = ""
    issuer: str = ""
    leeway_seconds: float = 0.0

    def read(self, token: str) -> Claims:
        """What the token says. Raises BadToken."""
        if len(token) > TOKEN_MAX_CHARACTERS or not token.isascii():
            raise BadToken("malformed", "It is not a token.")
        failure: Exception = jwt.InvalidSignatureError("Signature verification failed")
        for key in self._candidates(token):
            try:
                return self._claims(self._decode(token, key))
            except jwt.InvalidSignatureError as wrong_key:
                failure = wrong_key
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as invalid:
                raise _refusal(invalid) from None
        raise _refusal(failure)

    def issue(self, user: object, seconds: float) -> str:
        """A token for ``user``, signed with the newest key that can sign. Raises BadKey when none can."""
        key = next((each for each in self.keys if each.signing is not None), None)
        if key is None:
            raise BadKey("none of the keys can sign: a public key only checks")
        now = int(time.time())
        claims: dict[str, object] = {"sub": str(user), "iat": now, "exp": now + int(seconds)}
        claims |= {name: value for name, value in (("aud", self.audience), ("iss", self.issuer)) if value}
        return jwt.encode(claims, key.signing, algorithm=key.algorithm, headers={"kid": key.id} if key.id else None)

    def _candidates(self, token: str) -> list[TokenKey]:
        """The keys that may have signed it: of its algorithm, and of its ``kid`` or of none."""
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise BadToken("malformed", "It is not a token.") from None
        fitting = [key for key in self.keys if key.algorithm == header.get("alg")]
        if not fitting:
            raise BadToken("algorithm", "It is signed in a way that no key here is for.")
        key_id = header.get("kid")
        if key_id is None:
            return fitting
        named = [key for key in fitting if key.id == key_id] or [key for key in fitting if key.id is None]
        if not named:
            raise BadToken("unknown_key", "It is signed with a key that is not known here.")
        return named

    def _decode(self, token: str, key: TokenKey) -> dict[str, Any]:
        required = ["sub", "exp", *(["aud"] if self.audience else []), *(["iss"] if self.issuer else [])]
        return jwt.decode(
            token,
            key.checking,
            algorithms=[key.algorithm],
            audience=self.audience or None,
            issuer=self.issuer or None,
            leeway=self.leeway_seconds,
            options={"require": required},
        )

    def _claims(self, claims: dict[str, Any]) -> Claims:
        user, expires_at = claims["sub"], float(claims["exp"])
        if not (1 <= len(user) <= USER_MAX_CHARACTERS and user.isprintable()) or not math.isfinite(expires_at):
            raise BadToken("claims", "Its claims are not usable.")
        if expires_at <= time.time():  # the leeway is for what has not begun
            raise BadToken("expired", "Signature has expired.")
        return Claims(user, expires_at)


def _refusal(error: Exception) -> BadToken:
    reason = next((reason for kind, reason in _REASON_OF if isinstance(error, kind)), "malformed")
    return BadToken(reason, f"{error}.")


@lru_cache(maxsize=8)
def read_keys(texts: tuple[str, ...]) -> tuple[TokenKey, ...]:
    """Keys as settings name them; files are read once. Raises BadKey, which says which of them it is."""
    keys = []
    for number, text in enumerate(texts, 1):
        try:
            keys.append(read_key(text))
        except BadKey as error:
            raise BadKey(f"key {number} {error}") from None
    named = [key.id for key in keys if key.id is not None]
    if len(named) != len(set(named)):
        raise BadKey("has two keys with the same kid")
    return tuple(keys)


def read_key(text: str) -> TokenKey:
    """``[kid:<id>:]`` and a secret, a key in PEM, or ``file:<path>`` with one of the two in it. Raises BadKey."""
    match = _WITH_ID.fullmatch(text)
    key_id, text = (match["id"], match["key"]) if match else (None, text)
    if text.startswith(FILE):
        text = _read_file(text.removeprefix(FILE))
    if "-----BEGIN" in text:
        algorithm, checking, signing = _read_pem(text.replace("\\n", "\n").strip().encode())
    else:
        algorithm, checking, signing = "HS256", _read_secret(text.strip()), _read_secret(text.strip())
    return TokenKey(algorithm, checking, signing, key_id)


def _read_file(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, ValueError) as error:
        raise BadKey(f"names a file that cannot be read: {path}: {type(error).__name__}") from None


def _read_secret(text: str) -> bytes:
    secret = text.encode("utf-8", "surrogateescape")
    if len(secret) < SECRET_LEAST_BYTES:
        raise BadKey(f"is a secret of {len(secret)} bytes; HS256 needs {SECRET_LEAST_BYTES} or more")
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(secret)
    except jwt.InvalidKeyError:
        raise BadKey("is a public key or certificate in a form other than PEM") from None
    return secret


def _read_pem(pem: bytes) -> tuple[str, Any, Any]:
    """The algorithm, the public key, and the private one, if that is what it is."""
    private: Any = None
    try:
        if b"PRIVATE KEY-----" in pem:
            private = load_pem_private_key(pem, password=None)
            public: Any = private.public_key()
        else:
            public = load_pem_public_key(pem)
    except TypeError:
        raise BadKey("is encrypted; take the pass phrase off and protect the file") from None
    except (ValueError, UnsupportedAlgorithm, AttributeError):
        raise BadKey("is no public or private key in PEM") from None
    if isinstance(public, RSAPublicKey):
        if public.key_size < RSA_LEAST_BITS:
            raise BadKey(f"is an RSA key of {public.key_size} bits; RS256 needs {RSA_LEAST_BITS} or more")
        return "RS256", public, private if isinstance(private, RSAPrivateKey) else None
    if isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP256R1):
        return "ES256", public, private if isinstance(private, EllipticCurvePrivateKey) else None
    raise BadKey("is neither an RSA key nor one on the curve P-256")
