"""The consumer of the Channels tutorial (part 3, asynchronous), with rooms and private messages by channel name."""

from typing import Any

from channels.generic.websocket import AsyncJsonWebsocketConsumer


class ChatConsumer(AsyncJsonWebsocketConsumer):
    """Joins groups, sends to groups and to single channels; without a layer it only answers."""

    rooms: set[str]

    async def connect(self) -> None:
        self.rooms = set()
        await self.accept()
        await self.send_json({"type": "welcome", "id": getattr(self, "channel_name", "")})

    async def disconnect(self, code: int) -> None:
        for room in self.rooms:
            await self.channel_layer.group_discard(room, self.channel_name)

    async def receive_json(self, content: dict[str, Any], **kwargs: Any) -> None:
        match content["type"]:
            case "join":
                await self.join(content["room"])
            case "room":
                await self.channel_layer.group_send(
                    content["room"],
                    {
                        "type": "room.message",
                        "room": content["room"],
                        "from": self.channel_name,
                        "data": content["data"],
                    },
                )
            case "private":
                await self.channel_layer.send(
                    content["to"],
                    {"type": "private.message", "from": self.channel_name, "data": content["data"]},
                )

    async def join(self, room: str) -> None:
        if self.channel_layer is not None:
            await self.channel_layer.group_add(room, self.channel_name)
            self.rooms.add(room)
        await self.send_json({"type": "joined", "room": room})

    async def room_message(self, event: dict[str, Any]) -> None:
        if event["from"] != self.channel_name:
            await self.send_json(event | {"type": "room"})

    async def private_message(self, event: dict[str, Any]) -> None:
        await self.send_json(event | {"type": "private"})
