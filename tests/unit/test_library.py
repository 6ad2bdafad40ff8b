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
    ("library", "layer", "extra"),
    [
        ("pamqp", "realtime.layers.rabbitmq.RabbitmqChannelLayer", "rabbitmq"),
        ("aiokafka", "realtime.layers.kafka.KafkaChannelLayer", "kafka"),
    ],
)
def test_a_missing_client_library_is_named(library: str, layer: str, extra: str) -> None:
    """Where CHANNEL_LAYERS names the layer by hand as well, the error has the line that installs its library."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM, library, layer], capture_output=True, text=True)
    assert ended.returncode == 1
    said = ended.stderr.strip().splitlines()[-1]
    assert f"needs {library}" in said
    assert f"pip install 'django-realtime-cluster[{extra}]'" in said
    assert said.endswith(f"-r requirements-{extra}.txt")
