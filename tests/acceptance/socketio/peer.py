"""Clients that speak the bytes of Engine.IO and Socket.IO, over httpx and websockets. They know nothing of our code."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

DEADLINE_SECONDS = 10.0


class Polling:
    """A session over HTTP. ``await Polling.open(url)``, where ``url`` ends with the path."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url = url
        self.http = http
        self.handshake: dict[str, Any] = {}
        self.connected: dict[str, Any] = {}

    @classmethod
    async def open(cls, url: str, **options: Any) -> Self:
        limits = httpx.Limits(max_keepalive_connections=0)
        polling = cls(url, httpx.AsyncClient(timeout=DEADLINE_SECONDS, limits=limits, **options))
        response = await polling.http.get(url, params={"EIO": "4", "transport": "polling"})
        assert response.status_code == 200, response.text
        assert response.text.startswith("0"), response.text
        polling.handshake = json.loads(response.text[1:])
        return polling

    @property
    def sid(self) -> str:
        return str(self.handshake["sid"])

    @property
    def query(self) -> dict[str, str]:
        return {"EIO": "4", "transport": "polling", "sid": self.sid}

    async def poll(self, url: str = "") -> httpx.Response:
        return await self.http.get(url or self.url, params=self.query)

    async def begin_poll(self) -> asyncio.Task[tuple[int, str]]:
        """Send a poll; on return the node has it. The task gives the status and the body of its answer."""
        address = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = f"GET {address.path}?{urlencode(self.query)} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode())
        await writer.drain()
        # A node reads what came first first: it has the poll when it has answered another request that came later.
        (await self.http.get(self.url, params={"EIO": "4", "transport": "polling"})).raise_for_status()

        async def answer() -> tuple[int, str]:
            async with asyncio.timeout(DEADLINE_SECONDS):
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            return int(head.split()[1]), body.decode()

        return asyncio.create_task(answer())

    async def quiet(self) -> Self:
        """Take a ping and leave it unanswered: nothing comes by itself until the server loses patience."""
        assert await self.said() == "2"
        return self

    async def post(self, body: str | bytes, url: str = "") -> httpx.Response:
        return await self.http.post(url or self.url, params=self.query, content=body)

    async def said(self) -> str:
        """What the server has to say next."""
        response = await self.poll()
        assert response.status_code == 200, (response.status_code, response.text)
        return response.text

    async def say(self, body: str | bytes) -> None:
        response = await self.post(body)
        assert (response.status_code, response.text) == (200, "ok")

    async def join_namespace(self, auth: str = "") -> Self:
        """Connect to `/`."""
        await self.say(f"40{auth}")
        answer = await self.said()
        assert answer.startswith("40"), answer
        self.connected = json.loads(answer.partition("\x1e")[0][2:])
        return self

    async def close(self) -> None:
        await self.http.aclose()


class Socket:
    """A session over a WebSocket, or the upgrade of one."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.pings = 0
        self.is_answering = True

    @classmethod
    async def open(cls, url: str, sid: str | None = None, **options: Any) -> Self:
        query = "?EIO=4&transport=websocket" + ("" if sid is None else f"&sid={sid}")
        settings = {"proxy": None, "compression": None, "max_size": None, "ping_interval": None, **options}
        address = url.replace("http", "ws", 1) + query
        return cls(await connect(address, open_timeout=DEADLINE_SECONDS, close_timeout=1, **settings))

    async def send(self, message: str | bytes) -> None:
        await self.websocket.send(message)

    async def packet(self) -> str | bytes:
        """The next message, whatever it is."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.websocket.recv()

    async def next(self) -> str | bytes:
        """The next message that is no ping; pings are answered."""
        while (packet := await self.packet()) == "2":
            self.pings += 1
            if self.is_answering:
                await self.send("3")
        return packet

    async def handshake(self) -> dict[str, Any]:
        packet = await self.next()
        assert isinstance(packet, str)
        assert packet.startswith("0")
        handshake: dict[str, Any] = json.loads(packet[1:])
        return handshake

    async def ended(self) -> int:
        """Wait until the server has closed it; its close code."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while True:
                    await self.websocket.recv()
        except ConnectionClosed:
            return self.websocket.close_code or 0

    async def close(self) -> None:
        await self.websocket.close()
