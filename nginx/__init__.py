"""The balancer: nginx's configuration and what renders it."""
