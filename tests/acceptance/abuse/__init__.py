"""Attacks over real sockets on nodes with the limits of production, and what each of them must not change.

``oracle.py`` says what is the same for all of them, ``test_oracle.py`` shows that it notices harm, ``conftest.py`` says
how an attack is written.

| attack | test |
|---|---|
| a frame that declares 2^62 bytes; a 2 MiB frame; fragments over the limit | `test_frames.py` |
| slow handshakes; connect and silence; a byte now and then; heads and bodies too large | `test_slow_handshakes.py` |
| 1,000,000 empty continuations; 1-byte fragments; empty frames; 100,000 pings and pongs | `test_frames_flood.py` |
| floods of commands, joins, connects; a user on three nodes | `test_floods.py` |
| RSV1 without negotiation; reserved opcodes; unmasked frames | `test_frames.py` |
| 100,000 messages on one connection while its handler is stuck | `test_stuck.py` |
| a busy room with 5 % readers that never read, and one at 1 KB/s | `test_slow_readers.py` |
| peer vanished; half closed | `test_vanished.py` |
| random mutations of valid messages; raw bytes after the handshake; for Socket.IO too | `test_mutations.py` |
| Redis hung, killed, flushed while attacked | `test_outage.py` |
| token expired, refreshed, of another user, wrong key, `alg: none`, future `nbf` | `test_tokens.py` |
| logout, password, deactivation on another node | `test_sessions_end.py` |
| the matrix of origins, hosts and forged addresses | `test_origins.py` |
| forged senders, handlers, names and orders | `test_forgery.py` |
| pages of operators by the public listener; TRACE; wrong tokens; WebSocket on HTTP routes | `test_public_listener.py` |
| upgrade and never authenticate; authenticate twice | `test_unauthenticated.py` |
"""
