"""What somebody reads who chose a layer and has not installed what it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from channels.layers import get_channel_layer
from django.conf import settings

library, layer = sys.argv[1:]
sys.modules[library] = None
settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": layer}})
get_channel_layer()
"""


@pytest.mark.parametrize(
    ("library", "layer", "requirements"),
    [
        ("pamqp", "realtime.layers.rabbitmq.RabbitmqChannelLayer", "requirements-rabbitmq.txt"),
        ("aiokafka", "realtime.layers.kafka.KafkaChannelLayer", "requirements-kafka.txt"),
    ],
)
def test_a_missing_client_library_is_named(library: str, layer: str, requirements: str) -> None:
    """Where CHANNEL_LAYERS names the layer by hand as well, the error has the line that installs its library."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM, library, layer], capture_output=True, text=True)
    assert ended.returncode == 1
    said = ended.stderr.strip().splitlines()[-1]
    assert f"needs {library}" in said
    assert said.endswith(f"pip install -r {requirements}")
