"""A module of the tests as a process of its own that answers lines with lines: crowds of clients, beside the test."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Self

from tests.support.processes import CHECKOUT
from tests.support.servers import die_with_parent

END_SECONDS = 20


class AnsweringProcess:
    """`python -m MODULE ARGUMENTS…`; it ends with its standard input."""

    def __init__(self, module: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent(),
        )

    def ask(self, question: str) -> str:
        """Its next line after this one."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{question}\n")
        self.process.stdin.flush()
        return self.line()

    def line(self) -> str:
        """Its next line, without its end; empty if the process has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(END_SECONDS)
        self.process.stdout.close()
