"""Correction of L1C products with sen2cor: one task for each product, on workers with the resource ``sen2cor``.

The folder of the L2A products gets them as they are finished, and beside them::

    l2a-record.json   version of sen2cor, digest of the GIPP, product by product
    L2A_GIPP.xml      the configuration of all of them
    logs/             output of sen2cor for each L1C product
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import dask
from dask.delayed import Delayed
from dask.utils import parse_timedelta
from distributed import Client
from distributed.system import MEMORY_LIMIT
from pydantic import BaseModel, ValidationError
from rich.console import Console

from reben_dask.atomic import write_json
from reben_dask.cluster import connect, describe, is_embedded
from reben_dask.errors import ClusterError, InputError, OutputError
from reben_dask.job.scheduling import Attempt, Window, capable_workers, explain, make_task, task_key
from reben_dask.job.show import show_note
from reben_dask.options import ClusterOptions, Sen2CorOptions
from reben_dask.progress import StageProgress, cells_of_notebook, console
from reben_dask.sources.sen2cor import Correction, Installation, Level1C, correct, find_l1c, inspect_program
from reben_dask.sources.sentinel2 import DamagedProduct, read_tiles
from reben_dask.sources.sentinel2.safe import SafeProduct
from reben_dask.wording import counted
from reben_dask.workspace import Workspace, first_line, require_space

RESOURCE = "sen2cor"
RESOURCES = {RESOURCE: 1.0}
"""Resource of Dask that a run takes; a worker that offers 1 of it corrects one product at a time."""

THREADS_EACH, BYTES_EACH = 8, 16 * 2**30
"""Threads and memory of the machine for each worker of an embedded cluster, which sen2cor needs beside it."""

RECORD_FILE, GIPP_FILE, LOGS = "l2a-record.json", "L2A_GIPP.xml", "logs"

_STAGE = "l2a"
_SHOWN = 12


class CorrectedProduct(BaseModel):
    """An L2A product in the folder."""

    l2a: str
    """Name of its folder."""
    finished: str | None = None
    """ISO 8601, UTC; ``None`` for a product that was there before."""


class CorrectionRecord(BaseModel):
    """Contents of ``l2a-record.json``."""

    sen2cor: str | None = None
    """Version; ``None`` before the first run."""
    gipp_sha256: str | None = None
    products: dict[str, CorrectedProduct] = {}
    """By name of the L1C product."""
    failures: dict[str, str] = {}
    """Errors by name of the L1C product, of the last command."""

    @classmethod
    def read(cls, folder: Path) -> CorrectionRecord:
        """Read the record of a folder, empty if there is none; :class:`InputError` for a damaged one."""
        path = folder / RECORD_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except ValidationError as error:
            raise InputError(
                f"{path} is damaged ({error.errors()[0]['msg']}); delete it to keep the products beside it as they are."
            ) from None

    def write(self, folder: Path) -> None:
        """Write the record to a folder."""
        write_json(folder / RECORD_FILE, self.model_dump(), indent=2)


class CorrectionResult(NamedTuple):
    """L2A products of L1C products."""

    products: tuple[Path, ...] = ()
    failures: tuple[DamagedProduct, ...] = ()
    """L1C products without one, by the name of their tile."""
    waiting: int = 0
    """L1C products that a dry run did not correct."""
    note: str | None = None
    """Version of sen2cor and digest of the GIPP."""


NOTHING_CORRECTED = CorrectionResult()


@dataclass(frozen=True)
class _Folder:
    """Folder of L2A products, and its record."""

    root: Path
    record: CorrectionRecord

    def is_done(self, product: Level1C) -> bool:
        done = self.record.products.get(product.name)
        return done is not None and (self.root / done.l2a).is_dir()

    def adopt(self, products: Sequence[Level1C]) -> list[str]:
        """Adopt complete products of sen2cor that have no record; return notes."""
        notes = []
        for product in products:
            tiles, _ = read_tiles(map(SafeProduct, sorted(self.root.glob(f"{product.tile}_*.SAFE"))))
            if not self.is_done(product) and tiles:
                self.record.products[product.name] = CorrectedProduct(l2a=Path(tiles[-1].location).name)
                notes.append(f"{tiles[-1].location} is kept: it existed before, and its GIPP is unknown.")
        return notes

    def require_same(self, installation: Installation, gipp: bytes) -> None:
        """Record version and GIPP; refuse those that differ from the ones of finished products."""
        found = {"sen2cor": installation.version, "gipp_sha256": hashlib.sha256(gipp).hexdigest()}
        for name, value in found.items():
            earlier = getattr(self.record, name)
            if earlier not in (None, value) and any(done.finished for done in self.record.products.values()):
                what = {"sen2cor": "version of sen2cor", "gipp_sha256": "SHA-256 of the GIPP"}[name]
                raise OutputError(
                    f"{self.root} holds products that were corrected with another {what} ({earlier[:12]}, now "
                    f"{value[:12]}); give the same one, or another folder."
                )
            setattr(self.record, name, value)

    def accept(self, product: Level1C, made: Path) -> None:
        """Move a finished product here; the record comes first, and counts only beside its product."""
        if (self.root / made.name).exists():
            raise OutputError(f"{self.root / made.name} exists already; move it, and run the same command again.")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.record.products[product.name] = CorrectedProduct(l2a=made.name, finished=now)
        self.record.write(self.root)
        made.rename(self.root / made.name)

    def result(self, products: Sequence[Level1C]) -> CorrectionResult:
        """Collect the finished and failed products."""
        record = self.record
        errors = {product: record.failures.get(product.name) for product in products if not self.is_done(product)}
        note = None
        if record.sen2cor and record.gipp_sha256:
            own = sum(done.finished is not None for done in record.products.values())
            made = f"{counted(own, 'product')} corrected with sen2cor {record.sen2cor}"
            note = f"{made}; SHA-256 of the GIPP: {record.gipp_sha256}."
        return CorrectionResult(
            tuple(self.root / record.products[product.name].l2a for product in products if product not in errors),
            tuple(DamagedProduct(each.tile, each.path, InputError(error)) for each, error in errors.items() if error),
            sum(error is None for error in errors.values()),
            note,
        )


def correct_products(
    l1c: Sequence[str],
    out: Path,
    options: Sen2CorOptions,
    cluster: ClusterOptions | Client,
    *,
    dry_run: bool = False,
    quiet: bool = True,
) -> CorrectionResult:
    """Correct L1C products, and print plan, progress and failures; finished ones are not corrected again.

    Parameters
    ----------
    l1c : sequence of str
        L1C products, or folders of products.
    out : Path
        Folder for the L2A products, on a disk that all workers see.
    options : Sen2CorOptions
        Program, configuration and time limit.
    cluster : ClusterOptions or Client
        Cluster to start or to connect to, or the client of one.
    dry_run : bool
        Stop after the plan.

    Raises
    ------
    RebenError
        If the user has to fix something. Products on which sen2cor fails are returned as failures.
    """
    out, timeout_s = out.absolute(), _seconds(options.timeout)
    terminal = console()
    products, notes = find_l1c(l1c)
    if out.exists() and not out.is_dir():
        raise OutputError(f"The output {out} is a file; give a folder.")
    folder = _Folder(out, CorrectionRecord.read(out))
    notes += folder.adopt(products)
    waiting = [product for product in products if not folder.is_done(product)]
    sized = _sized(cluster)
    lines = {
        "Products": f"{len(products):,}, {len(products) - len(waiting):,} of them corrected already",
        "Waiting": ", ".join(product.name for product in waiting[:_SHOWN]) + ", …" * (len(waiting) > _SHOWN),
        "Time limit": f"{timeout_s / 3600:,.4g} h for each",
        "Workers": describe(sized),
        "Output": str(out),
    }
    terminal.print("Plan: L1C to L2A with sen2cor", style="bold")
    for label, value in lines.items():
        terminal.print(f"  {label:<12}{value or 'none'}", highlight=False, soft_wrap=True)
    for note in notes:
        show_note(terminal, note)
    folder.record.failures.clear()
    if waiting and not dry_run:
        with connect(sized, quiet=quiet, resources=RESOURCES) as client, _owned(out) as workspace:
            # Another command may have finished products since.
            folder = _Folder(out, CorrectionRecord.read(out))
            folder.adopt(products)
            folder.record.failures.clear()
            still = [product for product in waiting if not folder.is_done(product)]
            _correct(client, still, folder, workspace, options, timeout_s, terminal)
    result = folder.result(products)
    if waiting and not dry_run:
        terminal.print(f"{len(result.products):,} of {counted(len(products), 'product')} corrected. Written to {out}.")
    for failure in result.failures[:_SHOWN]:
        terminal.print(
            f"{Path(failure.location).name} failed: {failure.error}", style="red", highlight=False, soft_wrap=True
        )
    return result


def _correct(  # noqa: PLR0913, PLR0917 - the parts of a command
    client: Client,
    products: Sequence[Level1C],
    folder: _Folder,
    workspace: Workspace,
    options: Sen2CorOptions,
    timeout_s: float,
    terminal: Console,
) -> None:
    """Correct products, and record each as it is finished."""
    terminal.print(f"Dashboard: {client.dashboard_link}", highlight=False, soft_wrap=True)
    installation = _inspect_workers(client, options.sen2cor)
    scratch = workspace.building / f"work-{workspace.job}"
    settings = Correction(installation.program, folder.root / GIPP_FILE, scratch, folder.root / LOGS, timeout_s)
    gipp = _configuration(options, installation)
    folder.require_same(installation, gipp)
    settings.gipp.write_bytes(gipp)
    scratch.mkdir(parents=True)

    def make_tasks(product: Level1C, attempt: Attempt) -> Mapping[str, Delayed]:
        key = task_key(f"{RESOURCE}-{product.name}", workspace.job, attempt.number)
        return {_STAGE: make_task(key, partial(correct, product, settings))}

    with StageProgress(terminal, {_STAGE: len(products)}, *cells_of_notebook()) as progress:

        def retry(product: Level1C, error: BaseException) -> None:
            progress.tile(product.name, "again", first_line(explain(error)))

        window = Window(
            client, make_tasks, len(capable_workers(client, RESOURCES)), on_retry=retry, resources=RESOURCES
        )
        with closing(window.run(products)) as outcomes:
            for outcome in outcomes:
                error = outcome.error
                try:
                    if error is None:
                        folder.accept(outcome.item, outcome.result)
                except OutputError as refusal:
                    error = refusal
                if error is not None:
                    require_space(error, folder.root)
                    folder.record.failures[outcome.item.name] = first_line(explain(error))
                    folder.record.write(folder.root)
                progress.advance(_STAGE)


@contextmanager
def _owned(out: Path) -> Iterator[Workspace]:
    """Hold the folder while the block runs, and delete what runs of this and earlier commands leave."""
    workspace = Workspace(out)
    with workspace.owned():
        out.mkdir(parents=True, exist_ok=True)
        try:
            _delete_remains(workspace)
            yield workspace
        finally:
            _delete_remains(workspace)
    with suppress(OSError):
        workspace.building.rmdir()


def _delete_remains(workspace: Workspace) -> None:
    for remains in workspace.building.glob("work-*"):
        shutil.rmtree(remains, ignore_errors=True)


def _sized(cluster: ClusterOptions | Client) -> ClusterOptions | Client:
    """Options of an embedded cluster whose workers fit the machine with sen2cor beside each."""
    if isinstance(cluster, Client) or not is_embedded(cluster) or cluster.workers:
        return cluster
    workers = max(1, min(dask.system.CPU_COUNT // THREADS_EACH, int(MEMORY_LIMIT // BYTES_EACH)))
    return cluster.model_copy(update={"workers": workers, "threads": cluster.threads or 1})


def _inspect_workers(client: Client, program: str | None) -> Installation:
    """Inspect sen2cor on all workers that offer the resource; refuse different ones."""
    workers = capable_workers(client, RESOURCES)
    if not workers:
        raise ClusterError(
            f"No worker of the scheduler at {client.scheduler.address} offers the resource {RESOURCE}; start some on "
            f'machines with sen2cor: dask worker … --resources "{RESOURCE}=1"'
        )
    found = client.run(inspect_program, program, workers=list(workers), on_error="return")
    for worker, installation in sorted(found.items()):
        if isinstance(installation, BaseException):
            raise ClusterError(f"Worker {worker} cannot run sen2cor: {first_line(installation)}")
    first: Installation = found[min(found)]
    for other in found.values():
        if other != first:
            raise ClusterError(
                f"Workers have different installations of sen2cor ({first.program} {first.version} and {other.program} "
                f"{other.version}, or other GIPPs); install the same one everywhere, or give one path (--sen2cor)."
            )
    return first


def _configuration(options: Sen2CorOptions, installation: Installation) -> bytes:
    if options.gipp is None:
        if installation.gipp is None:
            raise InputError(f"No L2A_GIPP.xml is found beside {installation.program}; give one (--gipp FILE).")
        return installation.gipp
    try:
        return options.gipp.read_bytes()
    except OSError as error:
        raise InputError(f"The GIPP {options.gipp} cannot be read ({os.strerror(error.errno or 0)}).") from None


def _seconds(timeout: str) -> float:
    try:
        seconds = float(parse_timedelta(timeout, default=""))
    except (ValueError, KeyError, TypeError):
        seconds = 0
    if seconds <= 0:
        raise InputError(f"The time limit {timeout!r} is not a duration; write it as 4h, or 90min.")
    return seconds
