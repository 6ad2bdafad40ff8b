"""Minutes of everything at once: clients that come, talk and go in every way, and nodes and Redis that fail."""
