"""The engine's promises, on real `daphne config.asgi:application` processes, with peers that do what they are told."""
