"""Static files under ASGI, with DEBUG on or off, collected or not."""

from pathlib import Path
from typing import Any

from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]  # whitenoise has no types
    """WhiteNoise with whole responses, and without a need for `collectstatic`.

    WhiteNoise answers with a file, which is a synchronous stream: under ASGI Django would read it in a
    thread and warn for each one. Our files are small, so they are read at once.
    """

    def add_files(self, root: str | Path, prefix: str | None = None) -> None:
        """Serve a directory; one that is not there is no reason to warn, as files are found in the apps too."""
        if Path(root).is_dir():
            super().add_files(root, prefix)

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> HttpResponse:
        """The file as a response whose body is in memory."""
        found: Any = static_file.get_response(request.method, request.META)
        body = b""
        if found.file is not None:
            with found.file as file:
                body = file.read()
        response = HttpResponse(body, status=int(found.status))
        del response["content-type"]
        for name, value in found.headers:
            response[name] = value
        return response
