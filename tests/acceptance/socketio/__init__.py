"""Socket.IO clients against real nodes."""
