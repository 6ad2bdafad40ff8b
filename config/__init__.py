"""The Django project: environment, settings, URLs and the ASGI application."""
