"""A cluster that a real Prometheus scrapes."""
