"""`python -m benchmarks`: everything this machine has; `--quick`: ours and the C limit, in under two minutes."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.peer import MAKERS, ON_REQUEST, Peer
from benchmarks.runner import Bench, Row
from benchmarks.scenario import SCENARIOS, Scenario
from benchmarks.toolchain import Missing, compile_programs

QUICK_PEERS = ("ours", "limit")


def main(arguments: Sequence[str] | None = None) -> int:
    options = read_options(arguments)
    try:
        compile_programs()
    except Missing as error:
        say(f"benchmarks: {error}")
        return 1
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
        return run(options, Path(directory))


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(scenario.name for scenario in SCENARIOS)
    parser.add_argument("--quick", action="store_true", help="ours and the C limit only, the main scenarios, 2 rounds")
    parser.add_argument("--only", action="append", metavar="NAME", help=f"a scenario (repeatable): {names}")
    parser.add_argument("--peer", action="append", metavar="NAME", help=f"a server (repeatable): {', '.join(MAKERS)}")
    parser.add_argument("--rounds", type=int, help="default 3 (2 with --quick)")
    parser.add_argument("--seconds", type=float, help="length of each measured phase, default 2 (1 with --quick)")
    parser.add_argument(
        "--minutes", type=float, help="start nothing new after that long, default 25 (1.7 with --quick)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every finding of every round there")
    parser.add_argument("--write-readme", action="store_true", help="put the table into benchmarks/README.md")
    options = parser.parse_args(arguments)
    for given, known in ((options.only, [each.name for each in SCENARIOS]), (options.peer, list(MAKERS))):
        if unknown := set(given or ()) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    options.rounds = options.rounds or (2 if options.quick else 3)
    options.seconds = options.seconds or (1.0 if options.quick else 2.0)
    options.minutes = options.minutes or (1.7 if options.quick else 25.0)
    return options


def run(options: argparse.Namespace, directory: Path) -> int:
    started = time.monotonic()
    bench = Bench(
        peers=find_peers(options),
        rounds=options.rounds,
        seconds=options.seconds,
        deadline=started + options.minutes * 60,
        directory=directory,
        progress=say,
    )
    bench.prepare()
    rows: list[Row] = []
    try:
        for scenario in find_scenarios(options):
            say(f"{scenario.name}: {scenario.title} ({time.monotonic() - started:.0f} s)")
            rows += bench.run(scenario)
    except KeyboardInterrupt:
        say("interrupted: what there is so far")
    sentence = report.circumstances(options.rounds, time.monotonic() - started)
    print(f"\n{sentence}\n\n{report.table(rows)}", flush=True)
    if options.json:
        options.json.write_bytes(report.raw(rows))
    if options.write_readme:
        report.write_readme(rows, sentence)
    return 0 if rows and any(row.findings for row in rows) else 1


def find_peers(options: argparse.Namespace) -> list[Peer]:
    """The peers that were asked for and that this machine can run; a line for each of the others."""
    peers = []
    usual = QUICK_PEERS if options.quick else [name for name in MAKERS if name not in ON_REQUEST]
    for name in options.peer or usual:
        try:
            peers.append(MAKERS[name]())
        except Missing as error:
            say(f"without {name}: {error}")
    return peers


def find_scenarios(options: argparse.Namespace) -> list[Scenario]:
    if options.only:
        return [scenario for scenario in SCENARIOS if scenario.name in options.only]
    return [scenario for scenario in SCENARIOS if scenario.is_quick or not options.quick]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
