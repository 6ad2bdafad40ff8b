"""Servers that tell what reached them, to stand behind a proxy."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

READY = "/health/ready"


class Backend:
    """An HTTP server in a thread that answers with its name and what it was asked.

    What asks for READY is a check of its health: it gets a status of its own and is not counted.
    """

    def __init__(
        self, name: str, status: int = 200, ready_status: int = 200, sent_headers: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.status = status
        self.ready_status = ready_status
        self.sent_headers = dict(sent_headers or {})  # besides those that it needs
        self.requests = 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port: int = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                is_check = self.path == READY
                backend.requests += not is_check
                self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = json.dumps({"name": backend.name, "path": self.path, "headers": headers}).encode()
                self.send_response(backend.ready_status if is_check else backend.status)
                self.send_header("content-length", str(len(body)))
                for name, value in backend.sent_headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # a check may have read enough
                    self.wfile.write(body)

            do_GET = answer
            do_POST = answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def get(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named, body=b"{}" if method == "POST" else None)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def seen(port: int, path: str, **headers: str) -> dict[str, Any]:
    """What the backend saw of a request."""
    status, body = get(port, path, **headers)
    assert status == 200, body
    answer: dict[str, Any] = json.loads(body)
    return answer
