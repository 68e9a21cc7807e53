"""Check of ``statistics.json`` against all pixels, or against the patch counts only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reben_dask.formats.bands import BANDS, S1_BANDS
from reben_dask.formats.columns import LABELS, SPLIT, flagged
from reben_dask.formats.dataset import CUBES, LMDB, STATISTICS
from reben_dask.formats.statistics import ALL, PERCENTILES, SPLIT_KEYS, BandStatistics, Statistics
from reben_dask.patches.statistics import Sums, describe_sums
from reben_dask.stores.statistics import sum_cubes, sum_lmdb
from reben_dask.verify.engine import Context
from reben_dask.verify.findings import Check, collect, differences
from reben_dask.verify.metadata import Rows
from reben_dask.wording import counted


def verify_statistics(out: Path, rows: Rows, context: Context) -> Check:
    """Compare the statistics with those of all pixels, or with the metadata only, as the settings ask for."""
    check, has_problems = Check("Statistics"), context.report.problems > 0
    with collect(check, STATISTICS):
        found = Statistics.read(out)
        check.summary = f"{counted(len(found.bands), 'band')}, {counted(len(found.classes), 'class')}"
        if not rows.is_complete:
            check.not_checked = "there are no complete metadata"
        elif has_problems:
            check.not_checked = "the patches or their pixels have problems"
        elif not context.settings.full:
            check.summary += ", counts and order of values"
            check.add(_count_faults(found, rows, context), STATISTICS)
        else:
            expected = context.expected.nomenclature
            wanted = describe_sums(_sums(out, rows, context), expected.classes, expected)
            check.add(_faults(found, wanted), STATISTICS)
    return check


def _sums(out: Path, rows: Rows, context: Context) -> Sums:
    advance = context.settings.begin("statistics", len(rows))
    if (out / LMDB).is_dir() or context.dataset is None:
        return sum_lmdb(out / LMDB, rows, advance)
    return sum_cubes(out / CUBES, context.dataset.parts, advance)


def _faults(found: Statistics, wanted: Statistics) -> Iterator[str]:
    there, made = _flat(found), _flat(wanted)
    yield from differences(there, made)
    yield from (f"also has {name}" for name in there if name not in made)


def _flat(statistics: Statistics) -> dict[str, Any]:
    """Values by the names of all of their keys."""
    content = statistics.model_dump()
    bands = {f"{band} {split}": values for band, splits in content["bands"].items() for split, values in splits.items()}
    return {
        f"{of} {key}": value for of, values in {**bands, **content["classes"]}.items() for key, value in values.items()
    }


def _count_faults(found: Statistics, rows: Rows, context: Context) -> Iterator[str]:
    """Phrases for numbers that do not fit the patches of the metadata, or one another."""
    patches, labels = Counter[str](), Counter[str]()
    for row in rows:
        if not flagged(row):
            patches.update([ALL, *([row[SPLIT]] if row[SPLIT] else [])])
            labels.update(row[LABELS] or ())
    expected = context.expected
    wanted: dict[str, Any] = {f"{name} patches": labels[name] for name in expected.nomenclature.classes}
    bands = [*expected.recipe.bands] if patches[ALL] else []
    wanted |= {
        f"{band} {split} count": patches[split] * BANDS[band].side_px(expected.recipe.patch_size_m) ** 2
        for band in bands
        for split in SPLIT_KEYS
        if not context.as_published
    }
    there = _flat(found)
    yield from differences(there, wanted)
    yield from (
        f"has no {band} {split}" for band in bands for split in SPLIT_KEYS if f"{band} {split} count" not in there
    )
    yield from (f"also has {band}" for band in found.bands if band not in bands and band not in S1_BANDS)
    for band, splits in found.bands.items():
        yield from (f"{band} {split} {fault}" for split, of in splits.items() for fault in _order_faults(of))


def _order_faults(of: BandStatistics) -> Iterator[str]:
    values: Mapping[str, Any] = of.model_dump(exclude={"count"})
    if not of.count:
        yield from (f"has the {key} {value} of no pixels" for key, value in values.items() if value is not None)
        return
    yield from (f"has no {key}" for key, value in values.items() if value is None)
    if None not in values.values():
        ordered = [values[key] for key in ("min", *PERCENTILES, "max")]
        is_between = values["min"] <= values["mean"] <= values["max"]
        if ordered != sorted(ordered) or not is_between or values["std"] < 0:
            yield f"has a minimum, mean, percentiles and maximum that are not in order ({', '.join(map(str, ordered))})"
