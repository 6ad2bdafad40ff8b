"""Who a client is, by the settings of this project: the keys of tokens, and issuing them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from realtime import conf
from realtime.identity import ANONYMOUS, Identity, LiveSession
from realtime.tokens import SECRET_LEAST_BYTES, BadKey, BadToken, TokenRules, read_keys

__all__ = [
    "ANONYMOUS",
    "BadKey",
    "BadToken",
    "Identity",
    "LiveSession",
    "issue_token",
    "read_token",
    "signing_keys",
    "token_rules",
]


def signing_keys(settings: conf.Settings) -> tuple[str, ...]:
    """The keys of tokens as texts, newest first: TOKEN_KEYS, else the Django project's SECRET_KEY and its fallbacks."""
    if settings.token_keys:
        return settings.token_keys
    from django.conf import settings as django_settings

    secrets = (django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS)
    return tuple(each for each in secrets if isinstance(each, str) and len(each.encode()) >= SECRET_LEAST_BYTES)


def token_rules(settings: conf.Settings) -> TokenRules:
    """Which tokens are valid in this project. Files with keys are read once in a process."""
    return _rules(signing_keys(settings), settings.token_audience, settings.token_issuer, settings.token_leeway_seconds)


@lru_cache(maxsize=8)
def _rules(keys: tuple[str, ...], audience: str, issuer: str, leeway_seconds: float) -> TokenRules:
    return TokenRules(read_keys(keys), audience, issuer, leeway_seconds)


def issue_token(user_id: object, *, seconds: int = 3600, keys: Sequence[str] | None = None) -> str:
    """A signed token with which a client may say that it is ``user_id``, for that many seconds.

    Raises BadKey when no key can sign.
    """
    rules = token_rules(conf.current())
    if keys is not None:
        rules = _rules(tuple(keys), rules.audience, rules.issuer, rules.leeway_seconds)
    return rules.issue(user_id, seconds)


def read_token(token: str, settings: conf.Settings) -> Identity:
    """The identity in a token that is valid in this project. Raises BadToken."""
    claims = token_rules(settings).read(token)
    return Identity(user=claims.user, expires_at=claims.expires_at)
