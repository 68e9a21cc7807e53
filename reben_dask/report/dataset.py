"""The page of a dataset: its sections, from what is counted and what is on record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import geopandas as gpd
import pandas as pd

from reben_dask.formats.columns import SPLITS
from reben_dask.report.blocks import Block, Page, Picture, Section, Table, Text
from reben_dask.report.counted import share, split_table
from reben_dask.report.figures.counts import draw_classes, draw_funnel, draw_label_numbers, draw_seconds
from reben_dask.report.figures.dates import draw_dates
from reben_dask.report.gallery import plain_blocks, sky_blocks
from reben_dask.report.origin import origin_section
from reben_dask.report.record import Record, read_record
from reben_dask.report.survey import TOTAL, Survey, survey
from reben_dask.report.where import splits_section, tiles_section
from reben_dask.stores.terms import is_synthetic
from reben_dask.wording import counted

_STAGES = {
    "landcover": "sort the land cover",
    "tiles": "bands, maps, labels and patch table",
    "choice": "choice of images, and sets",
    "metadata": "metadata files",
    "lmdb": "LMDB",
    "geotiff": "GeoTIFF",
}


def dataset_page(out: Path, countries: gpd.GeoSeries | None, *, more: Sequence[Section] = ()) -> Page:
    """What there is to say of a dataset.

    Parameters
    ----------
    out : Path
        Its folder.
    countries : GeoSeries or None
        Country polygons for the map of tiles, if they can be read.
    more : sequence of Section
        Further sections, which follow its own.

    Raises
    ------
    InputError
        If it is not a dataset of this program, or its patch table cannot be read.
    """
    record, found = read_record(out), survey(out)
    has_patches = bool(found.kept)
    sections = [
        _funnel_section(found),
        *([_classes_section(found), _labels_section(found)] if has_patches else []),
        tiles_section(found, record, countries),
        *([splits_section(found, record)] if has_patches else []),
        *(_example_sections(found, record) if has_patches else ()),
        *([_dates_section(found)] if has_patches else []),
        origin_section(found, record),
        *_time_sections(record),
        *more,
    ]
    title = record.text("recipe", "title") or "A dataset of reben_dask"
    kind = "Synthetic dataset" if is_synthetic(record.text("inputs", "landcover", "about")) else "Dataset"
    subtitle = f"{kind} {out.resolve().name}, built with the recipe"
    return Page(title, subtitle, list(_facts(found)), sections, "reben report OUT")


def _facts(found: Survey) -> Iterator[tuple[str, str]]:
    yield "Tiles", f"{len(found.tiles):,}"
    yield "Candidates", f"{found.candidates:,}"
    yield "Kept patches", f"{found.kept:,}"
    if found.kept:
        totals = found.splits.sum()
        for split in SPLITS:
            yield split.capitalize(), f"{totals[split]:,}"
        yield "Classes that occur", f"{len(found.classes):,}"
        first, last = found.dates.index[[0, -1]]
        yield "Sensed", first if first == last else f"{first} to {last}"


def _funnel_section(found: Survey) -> Section:
    steps = found.steps
    losses = steps[1:]
    rows = [["Candidates", f"{found.candidates:,}", "100.0%"]]
    rows += [[f"rejected: {why}", f"{lost:,}", share(lost, found.candidates)] for why, lost in losses]
    rows.append(["Kept", f"{found.kept:,}", share(found.kept, found.candidates)])
    apart = {"snow": "all snow", "cloud": "all cloud or shadow"}
    rows += [
        [f"of these listed apart: {words}", f"{found.apart[name]:,}", share(found.apart[name], found.candidates)]
        for name, words in apart.items()
        if found.apart[name]
    ]
    alt = "; ".join(f"{name}: {count:,}" for name, count in [*steps, ("kept", found.kept)])
    caption = "From candidates to kept patches, rule by rule."
    blocks: list[Block] = [
        Text(
            f"{found.kept:,} of {found.candidates:,} candidate patches are kept. Of several reasons, the first counts."
        ),
        Picture("funnel", caption, f"Bars. {alt}.", partial(draw_funnel, steps, found.kept)),
        Table("What became of the candidate patches", ["", "patches", "share"], rows),
    ]
    if not found.kept:
        blocks.append(Text("No patch was kept, so there are no classes, sets or images to show.", is_note=True))
    return Section("funnel", "From candidates to patches", blocks)


def _classes_section(found: Survey) -> Section:
    totals = found.splits.sum()
    rarest, commonest = (
        (found.classes[TOTAL].idxmin(), found.classes[TOTAL].idxmax()) if len(found.classes) else ("", "")
    )
    alt = (
        f"Dots for each of {len(found.classes)} classes, one for each set. Most frequent is {commonest}, "
        f"least frequent {rarest}; the table below has all numbers."
    )
    caption = "Share of the patches of each set that carry a class; where dots lie together, the sets are alike."
    patches = pd.DataFrame([totals], index=["(all patches)"])
    table = split_table(
        "Patches with each class, by set (Table I of the reBEN paper); a patch counts once for each of its labels",
        "class",
        pd.concat([found.classes, patches]),
    )
    blocks: list[Block] = [Picture("classes", caption, alt, partial(draw_classes, found.classes, totals)), table]
    return Section("classes", "Classes", blocks)


def _labels_section(found: Survey) -> Section:
    numbers = found.numbers[TOTAL]
    mean = (numbers * numbers.index).sum() / numbers.sum()
    text = f"A patch has {mean:.2f} labels on average, from {numbers.index.min()} to {numbers.index.max()}."
    bars = (
        f"{counted(int(labels), 'label')}: {counted(count, 'patch')}"
        for labels, count in zip(numbers.index, numbers, strict=True)
    )
    alt = f"Stacked bars, by set. {'; '.join(bars)}."
    picture = Picture("labels", "Kept patches by number of labels.", alt, partial(draw_label_numbers, found.numbers))
    table = split_table("Kept patches by number of labels and set", "labels", found.numbers, folded=True)
    return Section("labels", "Labels of a patch", [Text(text), picture, table])


def _example_sections(found: Survey, record: Record) -> Iterator[Section]:
    if blocks := plain_blocks(found, record):
        yield Section("examples", "Patches and their reference maps", blocks)
    if blocks := sky_blocks(found, record):
        yield Section("sky", "Snow, cloud and shadow", blocks)


def _dates_section(found: Survey) -> Section:
    days = found.dates
    alt = (
        f"Kept patches on {counted(len(days), 'day')} from {days.index[0]} to {days.index[-1]}, "
        f"at most {days[TOTAL].max():,} on one day."
    )
    blocks: list[Block] = [
        Picture("dates", "Kept patches by day of sensing.", alt, partial(draw_dates, days)),
        split_table("Kept patches by season and set", "season", found.seasons),
        split_table("Kept patches by day of sensing and set", "day (UTC)", days, folded=True),
    ]
    return Section("dates", "When", blocks)


def _time_sections(record: Record) -> Iterator[Section]:
    seconds = {_STAGES.get(str(name), str(name)): float(value) for name, value in record.part("seconds").items()}
    if not seconds:
        return
    alt = "Bars. " + "; ".join(f"{name}: {value:,.1f} s" for name, value in seconds.items())
    rows = [[name, f"{value:,.1f}"] for name, value in seconds.items()]
    rows.append(["together", f"{sum(seconds.values()):,.1f}"])
    yield Section(
        "time",
        "How long it took",
        [
            Text(f"Workers: {record.text('workers')}.") if record.text("workers") else Text("Wall time of each stage."),
            Picture("seconds", "Wall time of each stage of the job.", f"{alt}.", partial(draw_seconds, seconds)),
            Table("Wall time of each stage of the job", ["stage", "seconds"], rows),
        ],
    )
