"""The whole, in separate processes: nodes, Redis, nginx, and clients that are not ours."""
