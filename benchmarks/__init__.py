"""What a delivery costs: our nodes beside other servers, and beside the limit that the kernel sets.

toolchain.py   compiles the C programs, installs the peers
processes.py   starts and ends servers, pinned to one core
peer.py        the servers that are measured
scenario.py    what is measured
generator.py   runs the load generator (load/*.c) and reads what it found
runner.py      rounds: every peer in turn, so that a noisy minute hits all of them
report.py      medians, ratios, the table
peers/         the other servers' programs; limit/ the C one; load/ the load generator
"""
