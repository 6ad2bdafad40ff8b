"""Consumers as the documentation of Channels shows them."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer


class AsyncChat(AsyncJsonWebsocketConsumer):
    """Everything that one client of a group says is said to all of them."""

    async def connect(self) -> None:
        self.group = self.scope["url_route"]["kwargs"]["group"]
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()
        await self.send_json({"type": "hello", "channel": self.channel_name})

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive_json(self, content: Any, **options: Any) -> None:
        message = {"type": "chat.message", "text": content["text"]}
        if "channel" in content:
            await self.channel_layer.send(content["channel"], message)
        else:
            await self.channel_layer.group_send(self.group, message)

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send_json({"type": "chat", "text": event["text"]})


class SyncChat(JsonWebsocketConsumer):
    """The same, in a thread."""

    def connect(self) -> None:
        self.group = self.scope["url_route"]["kwargs"]["group"]
        async_to_sync(self.channel_layer.group_add)(self.group, self.channel_name)
        self.accept()
        self.send_json({"type": "hello", "channel": self.channel_name})

    def disconnect(self, code: int) -> None:
        async_to_sync(self.channel_layer.group_discard)(self.group, self.channel_name)

    def receive_json(self, content: Any, **options: Any) -> None:
        message = {"type": "chat.message", "text": content["text"]}
        async_to_sync(self.channel_layer.group_send)(self.group, message)

    def chat_message(self, event: dict[str, Any]) -> None:
        self.send_json({"type": "chat", "text": event["text"]})
