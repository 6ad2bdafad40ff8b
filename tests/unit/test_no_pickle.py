"""Nothing that comes from elsewhere may be code."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.support.processes import CHECKOUT

PACKAGES = ("config", "demo", "monitoring", "realtime")
DANGEROUS = frozenset({"pickle", "cPickle", "dill", "jsonpickle", "marshal", "shelve", "yaml"})


def imported(tree: ast.AST) -> Iterator[str]:
    """The first words of what a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def called(tree: ast.AST) -> Iterator[str]:
    """The names of functions that a module calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def test_nothing_is_unpickled() -> None:
    """No module imports a serializer that can run what it reads, or evaluates text."""
    paths = [path for package in PACKAGES for path in (CHECKOUT / package).rglob("*.py")]
    assert len(paths) > 100
    for path in paths:
        tree = ast.parse(path.read_text())
        assert not DANGEROUS & set(imported(tree)), path
        assert not {"eval", "exec"} & set(called(tree)), path
