"""Common parts of the commands; an error that the user can fix is one sentence, not a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

import click

from reben_dask.environment import dask_problem, names_proj_data, require_libraries
from reben_dask.errors import InputError, RebenError
from reben_dask.signals import ignore_sigint

EXTRAS = {
    "matplotlib": "report",
    "obstore": "remote",
    **dict.fromkeys(("timm", "torch"), "train"),
    **dict.fromkeys(("keyring", "pystac_client", "requests"), "fetch"),
}
"""Extra of this package that installs a library which only some commands need."""


class Command(click.Command):
    """Command that explains its failures; with ``--debug``, if it has this option, it shows the traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; on failure print one sentence and end with status 1."""
        try:
            if names_proj_data():
                require_libraries(jpeg2000=False)
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            raise Failure(explain(error) or _report(error, has_debug="debug" in ctx.params)) from None
        except KeyboardInterrupt:
            # A second one would interrupt the cleanup of libraries with a traceback.
            ignore_sigint()
            raise Failure("Interrupted. Finished tiles are kept.") from None


class Failure(click.ClickException):
    """Final message of a failed command."""

    def show(self, file: Any = None) -> None:
        """Print the message to standard error."""
        click.secho(f"Error: {self.message}", fg="red", bold=True, err=True, file=file)


@contextmanager
def of_finished_jobs(*outs: Path) -> Iterator[None]:
    """Replace an InputError of the block with one that names the unfinished job, if that is the cause."""
    try:
        yield
    except InputError:
        from reben_dask.workspace import Output  # noqa: PLC0415 - takes long to import, for --help

        for out in outs:
            if Output(out.absolute()).is_unfinished:
                raise InputError(
                    f"{out} holds no dataset yet, but an unfinished job; `reben status {quote(str(out))}` shows its "
                    "progress. Run the same command again to resume."
                ) from None
        raise


def explain(error: Exception) -> str | None:
    """Return the message of an error that the user can fix, else None."""
    if isinstance(error, RebenError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        library = str(error.name).partition(".")[0]
        if extra := EXTRAS.get(library):
            return f"{library} is not installed; run: pip install 'reben_dask[{extra}]'"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}."
    return dask_problem() if isinstance(error, NotImplementedError) else None


def _report(error: Exception, *, has_debug: bool) -> str:
    hint = "run again with --debug for the details" if has_debug else "please report it"
    return f"{type(error).__name__}: {error}\nThis should not happen; {hint}."
