"""What `make` runs on a developer's machine: set-up, Debian packages, and the local cluster."""
