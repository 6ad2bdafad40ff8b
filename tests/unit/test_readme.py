"""README in both of its languages has the same in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """The text without its blocks of code."""
    return CODE.sub("", text)


def test_the_same_code() -> None:
    """Every block of code, in the same order."""
    assert CODE.findall(ENGLISH) == CODE.findall(CHINESE)


@pytest.mark.parametrize(
    "what",
    [
        r"^(#+) ",  # headings of the same levels
        r"^(\|)(?:[^|\n]*\|)+$",  # rows of tables
        r"^(- )",  # entries of lists
        r"\]\((?!README)([^)]+)\)",  # targets of links and pictures
        r"(?<!`)`([A-Za-z_./-][^`\n]*)`(?!`)",  # names in the text
        r"(\d[\d,.]*\d|\d)",  # figures
    ],
)
def test_the_same_things(what: str) -> None:
    """What can be compared without knowing either language: as often, and, links and names, the same ones."""
    found = [sorted(re.findall(what, prose(text), re.MULTILINE)) for text in (ENGLISH, CHINESE)]
    assert found[0] == found[1]
