"""Saying who the client is."""

from __future__ import annotations

import time

from realtime.auth import BadToken, Identity, read_token, signing_keys
from realtime.connection import Connection
from realtime.protocol.errors import Unauthorized
from realtime.protocol.messages import Authenticate, Authenticated, echo_ref


async def authenticate(connection: Connection, command: Authenticate) -> Authenticated:
    """Become a user, or refresh the credential of the same user; another user needs another connection."""
    try:
        identity = read_token(command.token, signing_keys(connection.node.settings))
    except BadToken as error:
        raise Unauthorized(f"The token is not valid: {error}.") from error
    if identity.user is None or connection.user not in (None, identity.user):
        raise Unauthorized("This connection belongs to another user.")
    if connection.user is None:
        await _permit(connection, identity)
        await connection.node.identify(connection, identity.user)
    known = connection.identity
    if known.user is None or identity.label not in ("", known.label):
        # The row keeps who the credential said it was, also when that is no user of this database.
        connection.node.on_identified(connection.id, identity.user, identity.label or identity.user)
    connection.identity = identity
    expires_in = int((identity.expires_at or 0) - time.time())
    return Authenticated(user=identity.user, expires_in=expires_in, ref=echo_ref(command.ref))


async def _permit(connection: Connection, identity: Identity) -> None:
    """Who may not be connected under this name stays anonymous. Raises CommandRefused."""
    judge = connection.node.judge
    caller = judge.caller(identity.user, identity.label, connection.id, connection.address, connection.transport)
    if (pending := judge.connect(caller)) is not None:
        await pending
