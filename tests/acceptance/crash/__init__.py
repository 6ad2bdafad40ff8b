"""Nodes that die, freeze and come back, as clients and the database see it."""
