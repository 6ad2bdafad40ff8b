"""What operators see of a node: its metrics and its health. ``realtime`` does not know of it."""
