"""Who a client is: tokens that a Django project issues for its users."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import jwt

from realtime import conf

ALGORITHM = "HS256"


class BadToken(Exception):
    """The token is malformed, signed by somebody else, expired, or not valid yet."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the credential says a client is. ``user`` is the primary key as text, None when anonymous.

    ``label`` is for people; ``expires_at``: Unix seconds, None when the credential does not end by itself.
    """

    user: str | None
    label: str = ""
    expires_at: float | None = None


ANONYMOUS = Identity(user=None)


def signing_keys(settings: conf.Settings) -> tuple[str, ...]:
    """The keys of tokens, newest first: TOKEN_KEYS, else the Django project's SECRET_KEY."""
    if settings.token_keys:
        return settings.token_keys
    from django.conf import settings as django_settings

    return (django_settings.SECRET_KEY,)


def issue_token(user_id: object, *, seconds: int = 3600, keys: Sequence[str] | None = None) -> str:
    """A signed token with which a client may say that it is ``user_id``, for that many seconds."""
    now = int(time.time())
    claims = {"sub": str(user_id), "iat": now, "exp": now + seconds}
    return jwt.encode(claims, (keys or signing_keys(conf.current()))[0], algorithm=ALGORITHM)


def read_token(token: str, keys: Sequence[str]) -> Identity:
    """The identity in a token signed with one of ``keys``. Raises BadToken."""
    error: Exception | None = None
    for key in keys:
        try:
            claims = jwt.decode(token, key, algorithms=[ALGORITHM], options={"require": ["sub", "exp"]})
        except jwt.InvalidSignatureError as wrong_key:
            error = wrong_key
            continue
        except jwt.InvalidTokenError as invalid:
            raise BadToken(str(invalid)) from invalid
        return Identity(user=claims["sub"], expires_at=float(claims["exp"]))
    raise BadToken(str(error)) from error
