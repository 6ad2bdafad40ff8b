"""Nodes of two versions side by side."""
