"""The files in deploy/: systemd takes the unit, and they satisfy our own checks of a deployment."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from haproxy.render import CHECK_MS
from realtime.checks import OPEN_FILES_LEAST, judge_open_files, judge_sysctl
from realtime.conf import Settings
from tests.support.cluster import require_program
from tests.support.processes import CHECKOUT

UNIT = CHECKOUT / "deploy" / "realtime@.service"
KERNEL = CHECKOUT / "deploy" / "sysctl-realtime.conf"


def unit() -> dict[str, str]:
    """The directives of the unit; the words of all Environment lines as directives of their own."""
    pairs = [line.split("=", 1) for line in UNIT.read_text().splitlines() if re.match(r"\w+=", line)]
    words = [word.split("=", 1) for name, value in pairs if name == "Environment" for word in value.split()]
    return dict([*pairs, *words])


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say about them, with the paths of this checkout."""
    for unit in UNIT.parent.glob("realtime*"):
        text = re.sub(r"/srv/realtime/\.venv/bin/\w+", "/bin/true", unit.read_text()).replace("=realtime", "=root")
        (tmp_path / unit.name).write_text(text.replace("/srv/realtime", str(CHECKOUT)))
    names = ["realtime@8081.service", "realtime-cleanup.service", "realtime-cleanup.timer"]
    command = [require_program("systemd-analyze"), "verify", *(str(tmp_path / name) for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_leaves_time_to_drain() -> None:
    """systemd kills later than the node ends by itself, and the node waits for more than two checks of HAProxy."""
    directives = unit()
    wait = float(directives["REALTIME_DRAIN_WAIT_SECONDS"])
    deadline = float(directives["REALTIME_DRAIN_DEADLINE_SECONDS"])
    assert 2 * CHECK_MS / 1000 < wait < deadline < float(directives["TimeoutStopSec"])


def test_the_unit_allows_enough_open_files() -> None:
    """As many as the check of a deployment asks for, and more than a node's share of the clients."""
    files = int(unit()["LimitNOFILE"])
    assert judge_open_files(files) is None
    assert judge_open_files(OPEN_FILES_LEAST - 1) is not None


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("net.core.somaxconn", Settings().listen_backlog),
        ("net.ipv4.tcp_max_syn_backlog", Settings().listen_backlog),
        ("net.ipv4.tcp_tw_reuse", 1),
    ],
)
def test_the_kernels_values_satisfy_the_checks(name: str, least: int) -> None:
    """What is to be copied to /etc/sysctl.d silences the checks of the kernel."""
    values = dict(re.findall(r"^(\S+) = (\S+)", KERNEL.read_text(), re.MULTILINE))
    assert judge_sysctl(name, int(values[name]), least) is None
