"""One walk through docs/your-project.md for all tests here: the wheel is built and installed once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.acceptance.your_project.document import Walk
from tests.support.servers import RedisServer


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[Walk]:
    """A walk that has just installed the wheel into a new environment."""
    walk = Walk(tmp_path_factory.mktemp("your-project"), redis_server.port)
    try:
        walk.follow("Install")
        yield walk
    finally:
        walk.stop()
        shutil.rmtree(walk.directory, ignore_errors=True)  # an environment has a hundred megabytes
