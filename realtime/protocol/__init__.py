"""The wire contract: what travels between clients and nodes, and between nodes. Pure: no I/O, no Django, no clock."""
