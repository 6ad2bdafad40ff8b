"""Attacks over real sockets."""
