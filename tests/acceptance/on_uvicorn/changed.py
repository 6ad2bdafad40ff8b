"""Our application on a uvicorn that is not the one we know: one of the methods that we build upon is gone."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from config.asgi import application

del WebSocketsSansIOProtocol.keepalive_timeout

__all__ = ["application"]
