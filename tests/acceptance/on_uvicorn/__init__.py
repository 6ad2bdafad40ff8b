"""Real `uvicorn config.asgi:application` processes: what daphne's nodes promise, nodes on uvicorn promise too."""
