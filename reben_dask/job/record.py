"""Counts of patches, and documents of a finished dataset: run record, recipe, card, Croissant metadata."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import rasterio
import yaml

from reben_dask import __version__
from reben_dask.analysis.counts import TOTAL, class_table
from reben_dask.atomic import write_text
from reben_dask.formats.columns import CLOUD, KEPT, OVERLAP_PX, REASON, S1_GAPS, SNOW, SPLIT, STATUS, TILE
from reben_dask.formats.dataset import (
    COUNTS_FILE,
    FORMAT,
    RECIPE_FILE,
    FailedTile,
    RecordedInputs,
    RecordedMap,
    RecordedTile,
    RunRecord,
)
from reben_dask.job.plan import Plan
from reben_dask.sources.remote import without_secrets
from reben_dask.sources.sentinel2 import Tile
from reben_dask.stores.cards import write_card, write_croissant
from reben_dask.wording import counted
from reben_dask.workspace import Origin, Output

_LIBRARIES = ("dask", "distributed", "dask-geopandas", "geopandas", "lmdb", "numpy", "pandas", "pyarrow")
_LIBRARIES_OF_PIXELS = ("rasterio", "safetensors", "shapely", "xarray", "zarr")

COLUMNS = ("tile", "measure", "key", "split", "patches")
NO_COUNTS = pd.DataFrame({name: pd.Series(dtype="int64" if name == "patches" else "str") for name in COLUMNS})


def count_patches(patches: pd.DataFrame) -> pd.DataFrame:
    """Count the finished patches of one tile.

    Returns
    -------
    DataFrame
        Columns ``tile``, ``measure``, ``key``, ``split`` (may be empty), ``patches``. Measures: ``status``; ``reason``
        (of rejection); of kept patches ``split``, ``class`` and ``apart`` (flagged ``snow`` or ``cloud_or_shadow``);
        ``contested_px``, pixels that several polygons of the map cover; and ``s1_gaps``, kept patches whose Sentinel-1
        partner has pixels without valid backscatter.
    """
    kept = patches[patches[STATUS] == KEPT]
    snow, cloud = (kept[flag].eq(True) for flag in (SNOW, CLOUD))
    table = class_table(kept)
    classes = table.drop(columns=TOTAL)
    # Patches in no split are counted, too.
    classes[""] = table[TOTAL] - classes.sum(axis=1)
    # The part files do not keep these columns.
    overlap_px = int(pd.to_numeric(patches[OVERLAP_PX]).sum()) if OVERLAP_PX in patches else 0
    s1_gaps = int(kept[S1_GAPS].eq(True).sum()) if S1_GAPS in patches else 0
    rows = [
        *((name, str(key), "", count) for name in (STATUS, REASON) for key, count in _values(patches[name])),
        *((SPLIT, str(key), "", count) for key, count in _values(kept[SPLIT])),
        ("apart", "snow", "", int(snow.sum())),
        ("apart", "cloud_or_shadow", "", int(cloud.sum())),
        ("apart", "any", "", int((snow | cloud).sum())),
        *((name, "", "", count) for name, count in ((OVERLAP_PX, overlap_px), (S1_GAPS, s1_gaps)) if count),
        *(("class", name, split, count) for split in classes for name, count in classes[split].items() if count),
    ]
    counts = pd.DataFrame(rows, columns=list(COLUMNS[1:]))
    counts.insert(0, TILE, patches[TILE].iloc[0])
    return counts.astype(NO_COUNTS.dtypes.to_dict())


def concat_counts(counts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate the counts of several tiles."""
    return pd.concat([NO_COUNTS, *counts], ignore_index=True)


def sum_counts(counts: pd.DataFrame, measure: str) -> dict[str, int]:
    """Add up one measure over all tiles, by key."""
    chosen = counts[counts["measure"] == measure]
    return {str(key): int(count) for key, count in chosen.groupby("key")["patches"].sum().items()}


def gap_notes(counts: pd.DataFrame) -> list[str]:
    """Note about kept patches whose Sentinel-1 partner has pixels without valid backscatter, if there are any."""
    patches = sum(sum_counts(counts, S1_GAPS).values())
    if not patches:
        return []
    have = "has" if patches == 1 else "have"
    what = "Sentinel-1 pixels without valid backscatter (NaN, infinite, NODATA or 0), kept as published"
    return [f"{counted(patches, 'kept patch')} {have} {what}."]


def split_notes(plan: Plan, counts: pd.DataFrame) -> list[str]:
    """Describe splits without patches, and those that miss their share by more than half of it."""
    splits = sum_counts(counts, SPLIT)
    assigned = sum(splits.values())
    notes = []
    for name, share in plan.recipe.split.shares.items() if assigned else ():
        found = splits.get(name, 0) / assigned
        if not found:
            notes.append(f"No kept patch is in {name}; {_remedy(plan)}.")
        elif abs(found - share) > share / 2:
            notes.append(f"{found:.1%} of the kept patches are in {name}, instead of {share:.0%}; {_remedy(plan)}.")
    return notes


def _remedy(plan: Plan) -> str:
    if rule := plan.recipe.split_of_all_tiles:
        return f"the area has few blocks of {rule.block_m:,.0f} m, make split.block_m of the recipe smaller"
    return "the area is small, or choose another split in the recipe"


def counts_to_json(counts: pd.DataFrame) -> list[list[Any]]:
    """Convert counts to rows of JSON; see :func:`counts_from_json`."""
    rows: list[list[Any]] = counts.to_numpy(object).tolist()
    return rows


def counts_from_json(rows: Iterable[Iterable[Any]]) -> pd.DataFrame:
    """Read counts from the rows of :func:`counts_to_json`."""
    return pd.DataFrame([list(row) for row in rows], columns=list(COLUMNS)).astype(NO_COUNTS.dtypes.to_dict())


def _values(column: pd.Series[Any]) -> list[tuple[Any, int]]:
    return [(key, int(count)) for key, count in column.value_counts().items()]


def describe_dataset(
    output: Output, plan: Plan, origin: Origin, counts: pd.DataFrame, seconds: Mapping[str, float], workers: str
) -> RunRecord:
    """Write the documents of a finished dataset below ``output.building``; return its run record."""
    failures = tuple(FailedTile(**_without_details(failure)) for failure in output.state.failures())
    failed = {failure.tile for failure in failures}
    published = plan.published
    record = RunRecord(
        format=FORMAT,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        title=plan.title,
        recipe=plan.recipe.model_dump(mode="json"),
        classes=plan.nomenclature.classes,
        class_of_code=dict(sorted(plan.nomenclature.class_of.items())),
        value_of_code=plan.nomenclature.value_of,
        color_of_value=plan.nomenclature.color_of,
        inputs=RecordedInputs(
            tiles=tuple(_tile_record(tile, plan) for tile in plan.tiles if tile.name not in failed),
            landcover=RecordedMap(**plan.landcover.record),
            countries=plan.countries.path if plan.countries else None,
            country_list=plan.countries.names if plan.countries else None,
            layers=dict(plan.layers),
            sentinel1=plan.partners.describe() if plan.partners else None,
            published=tuple(map(str, published.metadata)),
            pairs=_path(published.pairs),
            snow_list=_path(published.snow_list),
            cloud_list=_path(published.cloud_list),
        ),
        failures=failures,
        exports=plan.export_names,
        warnings=(*plan.warnings, *gap_notes(counts), *split_notes(plan, counts)),
        counts={str(measure): sum_counts(counts, measure) for measure in sorted(set(counts["measure"]))},
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
        workers=workers,
        versions=_versions(),
        origin=origin,
    )
    record.write(output.run)
    write_text(output.run / RECIPE_FILE, yaml.safe_dump(record.recipe, sort_keys=False, allow_unicode=True))
    ordered = counts.sort_values(["tile", "measure", "key", "split"])
    write_text(output.run / COUNTS_FILE, ordered.to_csv(index=False, lineterminator="\n"))
    write_card(output.building, record)
    write_croissant(output.building, record)
    return record


def _without_details(failure: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in failure.items() if name != "details"}


def _tile_record(tile: Tile, plan: Plan) -> RecordedTile:
    height, width = (pixels * 10 for pixels in tile.shape_yx[10])
    return RecordedTile(
        tile=tile.name,
        path=without_secrets(tile.location),
        metadata_sha256=tile.metadata_sha256,
        size_m_yx=(height, width),
        boa_add_offset=tile.boa_offset(tile.images),
        boa_offset_source=tile.offset_source,
        failed_quality=plan.scene(tile).failed_quality,
    )


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _versions() -> dict[str, str]:
    libraries = {name: version(name) for name in (*_LIBRARIES, *_LIBRARIES_OF_PIXELS)}
    own = {"reben_dask": __version__, "python": platform.python_version(), "gdal": rasterio.__gdal_version__}
    return {**own, **libraries}
