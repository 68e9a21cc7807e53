"""Results of commands that a test calls in its own process, and errors of functions: one sentence each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import Result

from reben_dask.errors import InputError


def printed(result: Result) -> str:
    """Output of a command that must succeed without a word on standard error."""
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def refusal(result: Result) -> str:
    """One-line message of a command that must fail with an error that the user can fix."""
    assert result.exit_code == 1, result.output
    message = result.stderr.strip()
    assert message.startswith("Error: ")
    assert "\n" not in message
    assert "This should not happen" not in message
    return message


def error_of(action: Callable[[], object], kind: type[Exception] = InputError) -> str:
    """One-line message of the error that a function must raise."""
    with pytest.raises(kind) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message
