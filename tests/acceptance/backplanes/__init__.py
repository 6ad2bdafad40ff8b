"""The same cluster, with the same promises, on every kind of backplane that has a server."""
