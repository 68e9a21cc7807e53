"""Findings of a verification: checks with their problems, the report, and the comparison of values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow as pa
from pyarrow import types
from rasterio.crs import CRS
from rasterio.errors import CRSError

from reben_dask.errors import RebenError
from reben_dask.wording import counted

NOTHING_THERE = "there are none"
"""Reason of a check whose optional subject is absent; the report names it."""

SHOWN = 3
"""Problems of a check that are quoted."""

_SHOWN_CHARACTERS = 80

Begin = Callable[[str, int], Callable[[int], object]]
"""Starts a stage of a number of steps, and returns the callback for finished ones."""


def silent(_stage: str, _steps: int) -> Callable[[int], object]:
    """No progress."""
    return lambda _: None


@dataclass(frozen=True)
class Settings:
    """Options of a verification."""

    full: bool = False
    """Read all pixels, not a sample."""
    digest: bool = False
    """Compute a digest of each artefact."""
    begin: Begin = silent


@dataclass
class Check:
    """One question about the data, and its answer; ``notes`` are findings that are not problems."""

    title: str
    noun: str = ""
    """Counted things in the singular, for the default summary."""
    summary: str = ""
    count: int = 0
    problems: int = 0
    examples: list[str] = field(default_factory=list)
    """First problems, each with the name of its subject."""
    notes: list[str] = field(default_factory=list)
    not_checked: str | None = None
    """Reason if there is no answer."""

    def problem(self, text: str) -> None:
        """Count one more problem."""
        self.problems += 1
        if len(self.examples) < SHOWN:
            # Names in foreign data may hold control characters of terminals, or be unprintable.
            self.examples.append(text if text.isprintable() else ascii(text)[1:-1])

    def add(self, problems: Iterable[str], subject: str = "") -> None:
        """Count several more problems, all of one subject."""
        for text in problems:
            self.problem(f"{subject} {text}" if subject else text)

    def line(self) -> str:
        """Format the check as one line of text."""
        if self.problems:
            result, more = counted(self.problems, "problem"), self.problems - len(self.examples)
            parts = [*self.examples, f"and {more:,} more" if more else ""]
        else:
            result, number = "not checked" if self.not_checked else "ok", self.noun and counted(self.count, self.noun)
            parts = [self.not_checked or self.summary or number, *self.notes]
        text = "; ".join(filter(None, parts))
        return f"{result:<13} {self.title}{text and ': '}{text}"


@dataclass
class Report:
    """All findings of a verification, in order."""

    checks: list[Check] = field(default_factory=list)
    patches: int = 0
    """Patches in the metadata, or without any, those found."""
    without: list[str] = field(default_factory=list)
    """Optional contents that are absent."""
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def problems(self) -> int:
        """Problems of all checks."""
        return sum(check.problems for check in self.checks)

    def verdict(self) -> str:
        """One sentence over all checks."""
        if self.problems:
            places = ", ".join(f"{check.title} ({check.problems:,})" for check in self.checks if check.problems)
            return f"{counted(self.problems, 'problem')}: {places}."
        missing = f", without {' and '.join(self.without)}" if self.without else ""
        patches = counted(self.patches, "patch")
        open_checks = (check for check in self.checks if check.not_checked not in (None, NOTHING_THERE))
        if unchecked := [check for check in open_checks if not check.problems]:
            titles = "; ".join(f"{check.title} ({check.not_checked})" for check in unchecked)
            return f"{patches}: no problems in the checked parts{missing}. Not checked: {titles}."
        return f"{patches}: complete and consistent{missing}."


@contextmanager
def collect(check: Check, subject: object = "") -> Iterator[None]:
    """Turn the error of unreadable data into a problem of ``subject``."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged files make libraries raise anything
        text = one_sentence(error)
        check.problem(f"{subject}: {text}" if str(subject) else text)


def one_sentence(error: Exception) -> str:
    """Message of an error on one line, without a full stop."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split()).rstrip(".") or "no details"
    return text if isinstance(error, RebenError | ValueError) else f"{type(error).__name__}: {text}"


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """Phrases for values that are missing or differ: the one comparison of all formats."""
    for name, value in wanted.items():
        if name not in found:
            yield f"has no {name}"
        # As text, too: NaN does not equal itself, and types of one meaning differ between libraries.
        elif found[name] != value and str(found[name]) != str(value):
            yield f"has the {name} {shown(found[name])}, not {shown(value)}"


def shown(value: Any) -> str:
    """Format a value for a message: text in quotes, cut if long."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


@lru_cache
def parse_crs(text: str) -> CRS | str:
    """CRS of a well-known text, which libraries word differently; the text itself if it is not valid."""
    try:
        return CRS.from_wkt(text)
    except CRSError:
        return text


def schema_faults(found: pa.Schema, wanted: pa.Schema) -> tuple[list[str], list[str]]:
    """Phrases for differing columns, and pandas' index columns; large types and views count as plain ones."""
    described = (found.pandas_metadata or {}).get("index_columns", [])
    index = [name for name in found.names if name in described and name not in wanted.names]
    names = [name for name in found.names if name not in index]
    faults = [f"has no column {name}" for name in wanted.names if name not in names]
    faults += [f"also has the column {name}" for name in names if name not in wanted.names]
    if not faults and names != wanted.names:
        faults.append(f"has its columns in another order ({', '.join(names)})")
    for name, type_ in zip(wanted.names, wanted.types, strict=True):
        if names.count(name) == 1 and _type(found.field(name).type) != _type(type_):
            faults.append(f"has {name} as {found.field(name).type}, not {type_}")
    return faults, index


def _type(type_: pa.DataType) -> str:
    if types.is_list(type_) or types.is_large_list(type_):
        return f"list<{_type(type_.value_type)}>"
    return (
        _type(type_.value_type)
        if types.is_dictionary(type_)
        else str(type_).removeprefix("large_").removesuffix("_view")
    )
