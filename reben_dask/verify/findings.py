"""What a verification finds: checks with their problems, and the verdict over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from reben_dask.errors import RebenError
from reben_dask.wording import counted

NOTHING_THERE = "there are none"
"""Why something was not checked that a dataset need not have, and of which the report is told."""

SHOWN = 3
"""Problems of a check that are named; the others are counted."""


@dataclass
class Check:
    """One question that was asked of the data, and the answer.

    Parameters
    ----------
    title : str
        What was looked at.
    summary : str
        How much was looked at, for a line without problems.
    problems : int
        Number of problems.
    examples : list of str
        The first problems, each a phrase that names what is wrong.
    notes : list of str
        What the user should know, but which is no problem.
    not_checked : str or None
        Why the question could not be asked, if so.
    """

    title: str
    summary: str = ""
    problems: int = 0
    examples: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    not_checked: str | None = None

    def problem(self, text: str) -> None:
        """Count one more problem."""
        self.problems += 1
        if len(self.examples) < SHOWN:
            # Names come from anyone, and may hold what a terminal obeys, or cannot print.
            self.examples.append(text if text.isprintable() else ascii(text)[1:-1])

    def add(self, problems: Iterable[str]) -> None:
        """Count several more problems."""
        for text in problems:
            self.problem(text)

    def line(self) -> str:
        """The check as one line of text."""
        return f"{self._result:<13} {self.title}{self._details}"

    @property
    def _result(self) -> str:
        if self.problems:
            return counted(self.problems, "problem")
        return "ok" if self.not_checked is None else "not checked"

    @property
    def _details(self) -> str:
        if self.problems:
            more = self.problems - len(self.examples)
            parts = [*self.examples, *([f"and {more:,} more"] if more else [])]
        else:
            parts = [self.not_checked or self.summary, *self.notes]
        text = "; ".join(part for part in parts if part)
        return f": {text}" if text else ""


@dataclass
class Report:
    """Everything that a verification found.

    Parameters
    ----------
    checks : list of Check
        In the order in which they were made.
    patches : int
        Patches that were looked for, or found, where there is no metadata to look for.
    without : list of str
        What the data do not have, and need not have.
    digests : dict of str to str
        SHA-256 of the content of each artefact, where they were asked for.
    """

    checks: list[Check] = field(default_factory=list)
    patches: int = 0
    without: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def problems(self) -> int:
        """Problems of all checks."""
        return sum(check.problems for check in self.checks)

    @property
    def unchecked(self) -> list[Check]:
        """Questions that could not be asked, but those about what there need not be."""
        checks = (check for check in self.checks if check.not_checked and not check.problems)
        return [check for check in checks if check.not_checked != NOTHING_THERE]

    def verdict(self) -> str:
        """One sentence over all checks."""
        if self.problems:
            places = ", ".join(f"{check.title} ({check.problems:,})" for check in self.checks if check.problems)
            return f"{counted(self.problems, 'problem')}: {places}."
        missing = f", without {' and '.join(self.without)}" if self.without else ""
        patches, unchecked = counted(self.patches, "patch"), self.unchecked
        if unchecked:
            titles = "; ".join(f"{check.title} ({check.not_checked})" for check in unchecked)
            return f"{patches}: nothing wrong in what was checked{missing}. Not checked: {titles}."
        return f"{patches}: complete and consistent{missing}."


@contextmanager
def collect(check: Check, subject: object = "") -> Iterator[None]:
    """Turn the error that unreadable data provoke into a problem.

    Parameters
    ----------
    check : Check
        Gets the problem.
    subject : object
        What is read, for the problem's text.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged files make libraries raise anything
        text = one_sentence(error)
        check.problem(f"{subject}: {text}" if str(subject) else text)


def one_sentence(error: Exception) -> str:
    """What an error says, on one line and without a full stop."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split()).rstrip(".") or "no details"
    return text if isinstance(error, RebenError | ValueError) else f"{type(error).__name__}: {text}"
