"""A client library that one kind of layer needs, and that requirements.txt does not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ImproperlyConfigured


@contextmanager
def needed(library: str, *, by: str, extra: str) -> Iterator[None]:
    """Around the imports that need it, which ``extra`` of our distribution, and a file of the same name, install. Not
    an ImportError, which Channels would replace by one of its own that names the layer alone."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:
            raise
        raise ImproperlyConfigured(
            f"the {by} channel layer needs {library}: python -m pip install 'django-realtime-cluster[{extra}]', "
            f"or in a checkout -r requirements-{extra}.txt"
        ) from error
