"""What a finished dataset says of itself: its run record, its card, and Croissant metadata."""

from __future__ import annotations

from reben_dask.formats.dataset import FORMAT, RunRecord
from reben_dask.job.build import Built
from reben_dask.job.plan import Plan
from reben_dask.job.record import Run, write_record
from reben_dask.output.folder import Output
from reben_dask.output.origin import Origin
from reben_dask.stores.cards import write_card, write_croissant


def describe_dataset(output: Output, plan: Plan, origin: Origin, built: Built, workers: str) -> None:
    """Write what goes with a dataset beside it, below ``output.building``.

    Parameters
    ----------
    output : Output
        Where everything else has been built.
    plan : Plan
        The job.
    origin : Origin
        What the dataset is made from.
    built : Built
        What the job found out on its way.
    workers : str
        One line about the cluster.
    """
    run = Run(origin, output.state.failures(), built.seconds, workers)
    written = write_record(output.run, plan, built.tallies, run)
    record = RunRecord.model_validate({"format": FORMAT, **written})
    record.write(output.run)
    write_card(output.building, record)
    write_croissant(output.building, record)
