"""The examples of docs/testing.md, collected here as tests. Each sees those before it on the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from devtools.ports import free_port

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
BLOCK = re.compile(r"^```python\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

BLOCKS = [found["text"] for found in BLOCK.finditer(PAGE.read_text())]
_names: dict[str, Any] = {"__name__": __name__}
for _number, _text in enumerate(BLOCKS):
    exec(compile(_text, f"{PAGE} block {_number + 1}", "exec", dont_inherit=True), _names)
globals().update({name: found for name, found in _names.items() if not name.startswith("_")})


def test_every_example_is_here() -> None:
    """As classes and functions that pytest collects."""
    written = re.findall(r"^ *(?:async )?def (test_\w+)", "".join(BLOCKS), re.MULTILINE)
    classes = [found for found in _names.values() if isinstance(found, type)]
    collected = {name for found in classes for name in vars(found)}
    assert len(written) == 11
    assert set(written) <= collected | set(globals())


def test_with_djangos_own_runner(tmp_path: Path) -> None:
    """``manage.py test``, on a machine without a backplane."""
    (tmp_path / "test_page.py").write_text("".join(each for each in BLOCKS if "pytest" not in each))
    command = [sys.executable, "manage.py", "test", str(tmp_path), "-t", str(tmp_path)]
    environment = {**os.environ, "BACKPLANE_URL": f"redis://127.0.0.1:{free_port()}/0"}
    done = subprocess.run(command, cwd=PAGE.parents[1], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Ran 10 tests" in done.stderr


def test_every_method_is_told() -> None:
    """What the page says of clients, nodes, layers and assertions is all that there is."""
    import realtime.testing as own

    text = PAGE.read_text()
    public = [
        name
        for kind in (own.RealtimeClient, own.FaultyLayer, own.RealtimeNode, own.FakeClock)
        for name, found in vars(kind).items()
        if not name.startswith("_") and callable(found)
    ]
    inner = {"backplane", "send", "group_send", "is_dropping", "tell_dropped", "rule"}
    missing = [name for name in {*public, *own.__all__} - inner - {"FakeClock"} if name not in text]
    assert missing == []
