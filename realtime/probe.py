"""A WebSocket of the process to itself, by which it finds out how quickly clients are answered.

It is no client: not tracked, not counted, in no room, and it takes nobody's place. It is told by a secret that no other
process knows; who sends another one is an ordinary client.
"""

from __future__ import annotations

from secrets import compare_digest

from realtime.protocol import codec
from realtime.protocol.messages import Ping, Pong, echo_ref
from realtime.server.socket import BINARY, ClientSocket, Scope

PROBE_HEADER = "x-realtime-probe"
_NAME = PROBE_HEADER.encode()


def is_probe(scope: Scope, secret: str) -> bool:
    """Whether this WebSocket is the process's own."""
    for name, value in scope["headers"]:
        if name == _NAME:
            return compare_digest(value, secret.encode())
    return False


async def serve_probe(client: ClientSocket) -> None:
    """Answer pings as for any client, until it goes."""
    await client.accept()
    while (message := await client.next()) is not None:
        if message is not BINARY:
            command = codec.decode_command(message)
            if isinstance(command, Ping):
                client.writer.write_text(codec.encode(Pong(ref=echo_ref(command.ref))))
