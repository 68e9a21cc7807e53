"""The guarantees on the reliability page name existing tests."""

from __future__ import annotations

import ast
import re

from conftest import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
FAULTS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / "slow" / "faults").glob("test_*.py"))


def _tests(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_each_test_that_is_named_exists() -> None:
    assert not [(path, name) for path, name in NAMED if name not in _tests(path)]


def test_each_fault_that_is_tested_is_on_the_page() -> None:
    named = {path: {name for other, name in NAMED if other == path} for path in FAULTS}
    assert {path: _tests(path) for path in FAULTS} == named


def test_each_row_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")][2:]
    assert rows
    assert not [row for row in rows if "`tests/" not in row.split(" | ")[-1]]
