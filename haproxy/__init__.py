"""HAProxy in front of the nodes: its configuration, rendered from a template."""
