"""The Compose file with its variables replaced, as Compose reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml
from conftest import ROOT

COMPOSE = ROOT / "deploy" / "docker" / "compose.yaml"
_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def compose(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file; a variable that is not given, or is empty, has the value that the file says."""
    given = variables or {}

    def replaced(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: replaced(value) for key, value in node.items()}
        if isinstance(node, list):
            return [replaced(value) for value in node]
        if not isinstance(node, str):
            return node
        said = _VARIABLE.sub(lambda match: given.get(match[1]) or match[2], node)
        assert "$" not in said.replace("$(", ""), f"{node} has a variable that is not written ${{NAME:-value}}"
        return said

    return replaced(yaml.safe_load(COMPOSE.read_text(encoding="utf-8")))
