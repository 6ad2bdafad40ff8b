"""Channel layers: what carries publications between nodes, and the one door (`backplane.py`) by which a node
uses it."""
