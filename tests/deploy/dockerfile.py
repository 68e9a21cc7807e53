"""A Dockerfile as its stages and instructions, read by the rules of Docker's reference."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from conftest import ROOT

DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
KEYWORDS = {"ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "STOPSIGNAL", "ENTRYPOINT", "CMD"}


class Instruction(NamedTuple):
    """A keyword, and what follows it with its lines joined."""

    keyword: str
    value: str

    @property
    def words(self) -> list[str]:
        """The words of its value, as an array if it is one."""
        return json.loads(self.value) if self.value.startswith("[") else shlex.split(self.value)


def instructions(text: str) -> Iterator[Instruction]:
    """Instructions in their order, without comments."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    pending = ""
    for line in lines:
        if line.endswith("\\"):
            pending += line.removesuffix("\\").strip() + " "
            continue
        keyword, _, value = (pending + line).partition(" ")
        assert keyword in KEYWORDS, f"{keyword} is no instruction that these files need"
        yield Instruction(keyword, value.strip())
        pending = ""
    assert not pending, "the last line goes on"


def stages(path: Path = DOCKERFILE) -> list[list[Instruction]]:
    """Instructions before the first stage, then those of each stage."""
    found: list[list[Instruction]] = [[]]
    for instruction in instructions(path.read_text(encoding="utf-8")):
        if instruction.keyword == "FROM":
            found.append([])
        found[-1].append(instruction)
    return found


def environment(stage: list[Instruction]) -> dict[str, str]:
    """Variables that a stage sets."""
    words = [word for instruction in stage if instruction.keyword == "ENV" for word in instruction.words]
    return dict(word.split("=", 1) for word in words)


def is_sent(path: str, patterns: list[str]) -> bool:
    """Test if Docker sends a file to the builder: the last pattern of ``.dockerignore`` that matches it decides."""
    sent = True
    for pattern in patterns:
        ignored = pattern.removeprefix("!")
        parts = path.split("/")
        tops = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
        anywhere = ignored.removeprefix("**/")
        names = parts if ignored.startswith("**/") else tops
        if any(fnmatch(name, anywhere) for name in names):
            sent = pattern.startswith("!")
    return sent


def ignore_patterns() -> list[str]:
    """Patterns of the file where Docker looks for it: at the root of what is sent."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
