"""Saying who the client is."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from realtime.auth import BadToken, Identity, read_token
from realtime.authentication import Credentials, own_identity
from realtime.connection import Connection
from realtime.protocol.errors import Unauthorized, Unavailable
from realtime.protocol.messages import Authenticate, Authenticated, echo_ref

if TYPE_CHECKING:
    from realtime.node import Node

ENDLESS_SECONDS = 86_400
"""What a client is told of a credential that does not end by itself: it asks again once a day."""


async def authenticate(connection: Connection, command: Authenticate) -> Authenticated:
    """Become a user, or refresh the credential of the same user; another user needs another connection."""
    identity = await identify(connection, command.token)
    expires_in = ENDLESS_SECONDS if identity.expires_at is None else int(identity.expires_at - time.time())
    return Authenticated(user=identity.user or "", expires_in=expires_in, ref=echo_ref(command.ref))


async def identify(connection: Connection, token: str) -> Identity:
    """Let the connection be whom the token names. Raises Unauthorized, and Unavailable.

    1. is the token good; 2. is it of the same user; 3. may this user be connected; 4. is the client still there; 5. the
    connection is the user's. A connection that came with a session stays bound to that, whatever tokens it sends.
    """
    node = connection.node
    try:
        identity = await identity_of_token(node, token, known=connection.user)
    except BadToken as error:
        node.refusals.refused(error.reason, connection.id, connection.user)
        raise Unauthorized(f"The token is not valid: {error}" if error.reason != OTHER_USER else str(error)) from error
    user = identity.user or ""
    if connection.user is None:
        await _permit(connection, identity)
    if connection.id not in node.hub.connections or connection.user not in (None, user):
        raise Unauthorized("The connection has ended.")
    known = connection.identity
    if connection.user is None:
        await node.identify(connection, user)
    if known.user is None or identity.label not in ("", known.label):
        # The row keeps who the credential said it was, also when that is no user of this database.
        node.on_identified(connection.id, user, identity.label or user)
    connection.identified(identity if known.session is None else replace(known, label=identity.label or known.label))
    return identity


OTHER_USER = "other_user"
NO_USER = "user"


async def identity_of_token(node: Node, token: str, known: str | None = None) -> Identity:
    """Who a token says the client is. Raises BadToken, and Unavailable when the database cannot be asked."""
    own = await _own_identity(node, token)
    identity = own or read_token(token, node.settings)
    if known not in (None, identity.user):
        raise BadToken(OTHER_USER, "This connection belongs to another user.")
    if own is not None or not node.settings.token_users_are_checked:
        return identity
    from channels.db import database_sync_to_async

    from realtime.sessions import find_active_user

    try:
        label = await database_sync_to_async(find_active_user)(identity.user or "")
    except Exception as error:  # whatever the database or its driver raises
        node.refusals.unavailable(error)
        raise Unavailable("The user cannot be looked up now; try again later.") from error
    if label is None:
        raise BadToken(NO_USER, "There is no such active user.")
    return replace(identity, label=label)


async def _own_identity(node: Node, token: str) -> Identity | None:
    """Whom the project's own hook says that a token names. Raises BadToken, and Unavailable."""
    try:
        own = await own_identity(node.settings, lambda: Credentials(token=token))
    except Exception as error:  # whatever a project raises
        node.refusals.unavailable(error)
        raise Unavailable("Nobody can say whose token this is; try again later.") from error
    if own is not None and own.user is None:
        raise BadToken(NO_USER, "There is no such active user.")
    return own


async def _permit(connection: Connection, identity: Identity) -> None:
    """Who may not be connected under this name stays anonymous. Raises CommandRefused."""
    judge = connection.node.judge
    caller = judge.caller(identity.user, identity.label, connection.id, connection.address, connection.transport)
    if (pending := judge.connect(caller)) is not None:
        await pending
