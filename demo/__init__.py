"""A page to try the cluster with: rooms, broadcasts and private messages over client.js. Off in production."""
