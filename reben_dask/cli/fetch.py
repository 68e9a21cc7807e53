"""The ``fetch`` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reben_dask.cli.base import Command
from reben_dask.cli.options import model_options
from reben_dask.errors import InputError
from reben_dask.options import DEFAULT_RECIPE, FetchOptions
from reben_dask.run import EXIT_PARTIAL
from reben_dask.wording import counted

if TYPE_CHECKING:
    import geopandas as gpd
    from rich.console import Console

    from reben_dask.recipes import Recipe
    from reben_dask.sources.fetch import FetchRecord, Provider, Selection
    from reben_dask.sources.fetch.selection import Search

EPILOG = """
\b
Examples:
  reben fetch --bbox 16.5,52.2,17.3,52.6 --dates 2018-04/2018-09 --cloud 5 \\
              --out tiles --dry-run
  reben fetch --tiles 33UUP,33UVP --dates 2018 --recipe seasonet --best 1 --out tiles
  reben fetch --published metadata.parquet --whole --out l1c
  reben fetch --landcover

\b
Login of the Copernicus Data Space: CDSE_USERNAME and CDSE_PASSWORD (and CDSE_TOTP),
or CDSE_S3_ACCESS_KEY and CDSE_S3_SECRET_KEY, in the environment; or a machine in
~/.netrc or the keyring. It is never an option.
"""

LANDCOVER_FILE = "U2018_CLC2018_V2020_20u1.gpkg"
LANDCOVER_HELP = f"""\
CORINE Land Cover 2018 requires a login and acceptance of the licence, so no script can download it:

  page      https://land.copernicus.eu/en/products/corine-land-cover/clc2018
  file      Vector, GeoPackage: {LANDCOVER_FILE}, or the zip archive that holds it (2 GB)
  login     EU Login, free of charge
  licence   free use with the credit "European Union's Copernicus Land Monitoring Service information"

Give the file, the archive or its folder to: reben run --landcover FILE
"""
_SHOWN_ROWS = 40


@click.command("fetch", cls=Command, epilog=EPILOG)
@model_options(FetchOptions)
@click.option("--dry-run", is_flag=True, help="Print the plan, write DIR/selection.parquet and stop.")
@click.option(
    "--plot", metavar="FILE.png", type=click.Path(path_type=Path), help="Draw the plan as a map (.png or .svg)."
)
@click.option(
    "--landcover",
    metavar="[FILE]",
    is_flag=False,
    flag_value="",
    help="Print the download page of the land-cover map; with FILE, check a downloaded copy.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def fetch(ctx: click.Context, /, **options: Any) -> None:
    """Find and fetch the products of a region.

    First prints a plan: products, baselines, cloud cover, bytes and transfer time. If an acquisition has several
    processing baselines, the newest is used. `--dry-run` stops there.

    Then the files that a job reads (metadata, and bands at native resolution) are fetched into DIR/NAME.SAFE, each
    checked against the product's checksums. Run the same command again to resume: existing files are kept, partial
    files are completed. DIR/selection.parquet has the selection, DIR/fetch-record.json the source of each file.

    Products come as .SAFE folders from the Copernicus Data Space, as GeoTIFFs with their item from Earth Search and the
    Planetary Computer, and as Zarr from EOPF; `reben run --s2 DIR` reads all three (items as `--s2-stac DIR`).

    The exit status is 0 if all products are complete, 3 if some failed, are missing or offline, 1 if there is none,
    and 2 for wrong options.
    """
    landcover, plot, dry_run = options.pop("landcover"), options.pop("plot"), options.pop("dry_run")
    options.pop("debug")
    wanted = FetchOptions.of(**options)
    is_search = wanted.published or wanted.dates or wanted.bbox or wanted.area or wanted.tiles
    if landcover is not None:
        _show_landcover(landcover)
        if not is_search:
            return
    _require_complete(wanted)
    # These imports take seconds; --help should not wait for them.
    from reben_dask.progress import ByteProgress, console  # noqa: PLC0415
    from reben_dask.sources.fetch import fetch_selection, load_provider, selection_frame, write_selection  # noqa: PLC0415

    output, provider = console(), load_provider(wanted.provider)
    if plot is not None:
        from reben_dask.drawing import require_image_name  # noqa: PLC0415

        require_image_name(plot)
    selection = _select(wanted, provider)
    specs = {name: provider.spec(name) for name in sorted({product.collection for product in _all(selection)})}
    frame = selection_frame(selection, wanted.provider, specs, whole=wanted.whole)
    _show_plan(output, selection, frame, provider)
    if _collection(wanted) == "l1c" and not wanted.whole:
        output.print("Note: reben l2a (sen2cor) needs whole products; add --whole to correct these.", style="yellow")
    if wanted.out is not None:
        output.print(f"Selection: {write_selection(frame, wanted.out)}", highlight=False)
    if plot is not None:
        _draw(frame, plot)
    if dry_run or wanted.out is None:
        return
    online = frame[frame["online"]]
    with ByteProgress(output, "Fetch", int(online["transfer_bytes"].sum())) as progress:
        query = wanted.model_dump(mode="json", exclude_defaults=True)
        record = fetch_selection(
            selection, provider, wanted.out, progress, whole=wanted.whole, connections=wanted.connections, query=query
        )
    _show_result(output, record, wanted.out, len(selection.products))
    if not record.products:
        raise InputError(f"No product could be fetched to {wanted.out}; see the reasons above.")
    if record.failed or record.offline or record.missing:
        ctx.exit(EXIT_PARTIAL)


def _require_complete(wanted: FetchOptions) -> None:
    """Raise a usage error for options that cannot be combined."""
    if wanted.published:
        for name in ("bbox", "area", "dates", "best"):
            if getattr(wanted, name):
                raise click.UsageError(f"--{name} is for a search; --published names the products itself.")
    elif not wanted.dates:
        raise click.UsageError("Give --dates, such as 2018-04-01/2018-09-30, or --published.")
    elif not (wanted.bbox or wanted.area or wanted.tiles):
        raise click.UsageError("Give --bbox, --area or --tiles.")
    if wanted.collection == "s1" and wanted.tiles:
        raise click.UsageError("Sentinel-1 has no MGRS tiles; give --bbox or --area.")
    if wanted.bbox and wanted.area:
        raise click.UsageError("Give --bbox or --area, not both.")
    if wanted.sentinel1 and wanted.collection == "s1":
        raise click.UsageError("--sentinel1 adds scenes to Sentinel-2 products; --collection s1 fetches scenes alone.")


def _collection(wanted: FetchOptions) -> str:
    return wanted.collection or ("l1c" if wanted.published else "l2a")


def _all(selection: Selection) -> list[Any]:
    return [*selection.products, *selection.offline]


def _select(wanted: FetchOptions, provider: Provider) -> Selection:
    """Search for products, and choose among them; :class:`InputError` if none is found."""
    from dataclasses import replace  # noqa: PLC0415

    from reben_dask.recipes import load_recipe  # noqa: PLC0415
    from reben_dask.sources.fetch import (  # noqa: PLC0415
        Selection,
        arranged,
        choose_baseline,
        find_partners,
        find_published,
        open_search,
        published_acquisitions,
    )

    collection, search = _collection(wanted), open_search(provider)
    provider.spec(collection)
    if wanted.sentinel1:
        provider.spec("s1")
    recipe = load_recipe(wanted.recipe or DEFAULT_RECIPE)
    if wanted.published:
        tiles = published_acquisitions(wanted.published)
        kept = {tile: place for tile, place in tiles.items() if not wanted.tiles or place.mgrs in wanted.tiles}
        selection = find_published(kept, collection, search)
    else:
        selection = Selection(tuple(_search_area(wanted, search, recipe, collection)))
    products, left_out = choose_baseline(selection.products, wanted.baseline)
    notes = list(selection.notes)
    if left_out:
        notes.append(
            f"If an acquisition has several processing baselines, {wanted.baseline} is used; "
            f"{counted(len(left_out), 'product')} left out."
        )
    products = _clearest(wanted, products, recipe)
    selection = arranged(replace(selection, products=tuple(products), notes=tuple(notes)))
    if wanted.sentinel1:
        partners = arranged(find_partners(selection.products, recipe.sentinel1.max_days, search))
        selection = replace(
            selection,
            products=(*selection.products, *partners.products),
            offline=(*selection.offline, *partners.offline),
            notes=(*selection.notes, *partners.notes),
            partner_of=partners.partner_of,
        )
    if not _all(selection):
        raise InputError(
            f"{wanted.provider} has no product for this search; widen --dates, --cloud or the area, or try another "
            "--collection or --provider."
        )
    return selection


def _search_area(wanted: FetchOptions, search: Search, recipe: Recipe, collection: str) -> Any:
    from reben_dask.sources.fetch import Query, parse_area, parse_dates, read_area  # noqa: PLC0415

    start, end = parse_dates(str(wanted.dates))
    area = parse_area(wanted.bbox) if wanted.bbox else read_area(wanted.area) if wanted.area else None
    months = frozenset(month for season in recipe.seasons.values() for month in season) if wanted.recipe else None
    return search(Query(collection, start, end, area, wanted.tiles, wanted.cloud, months))


def _clearest(wanted: FetchOptions, products: list[Any], recipe: Recipe) -> list[Any]:
    from reben_dask.sources.fetch import choose_clearest  # noqa: PLC0415

    return products if wanted.best is None else choose_clearest(products, wanted.best, recipe.seasons)


def _show_plan(output: Console, selection: Selection, frame: gpd.GeoDataFrame, provider: Provider) -> None:
    from reben_dask.sources.fetch import transfer_days  # noqa: PLC0415
    from reben_dask.tables import COUNT, TEXT, Table  # noqa: PLC0415

    groups = frame.assign(mgrs=frame["mgrs"].fillna("")).groupby(["collection", "mgrs"], dropna=False)
    rows = [
        (
            " ".join(filter(None, key)),
            len(group),
            f"{group['sensing_time'].min():%Y-%m-%d} … {group['sensing_time'].max():%Y-%m-%d}",
            ", ".join(sorted(group["baseline"].dropna().unique())),
            group["cloud"].median(),
            group["transfer_bytes"].sum() / 1e9,
        )
        for key, group in groups
    ]
    columns = ("tile", "products", "dates", "baselines", "median cloud %", "GB")
    formats = (TEXT, COUNT, TEXT, TEXT, ",.1f", ",.2f")
    Table("Plan", columns, rows[:_SHOWN_ROWS], formats).show(output)
    if len(rows) > _SHOWN_ROWS:
        output.print(f"… and {len(rows) - _SHOWN_ROWS:,} more tiles")
    nbytes = int(frame.loc[frame["online"], "transfer_bytes"].sum())
    whole = frame["product_bytes"].sum() / 1e9
    of = f" of {whole:,.1f} GB" if whole else ""
    days = transfer_days(nbytes, provider.limits)
    output.print(
        f"{counted(len(frame), 'product')}, about {nbytes / 1e9:,.1f} GB{of}; at least {_duration(days)} with "
        f"{counted(provider.limits.connections, 'connection')} of {provider.limits.bytes_per_s / 1e6:g} MB/s"
        f"{_quota(nbytes, provider)}.",
        highlight=False,
    )
    for note in selection.notes:
        output.print(f"Note: {note}", style="yellow", highlight=False)
    if selection.offline:
        output.print(f"Offline; order from the provider: {_names(selection.offline)}.", style="yellow")
    if selection.missing:
        output.print(
            f"Published tiles without a product at the provider: {', '.join(selection.missing)}.", style="yellow"
        )


def _quota(nbytes: int, provider: Provider) -> str:
    limits = provider.limits
    if not limits.quota_bytes:
        return ""
    share = nbytes / limits.quota_bytes
    return f", {share:.1%} of the {limits.quota_bytes / 1e12:g} TB in {limits.quota_days} days of a free account"


def _duration(days: float) -> str:
    if days >= 1:
        return f"{days:,.1f} days"
    return f"{days * 24:.1f} h" if days * 24 >= 1 else f"{max(1, round(days * 1440))} min"


def _names(products: Any) -> str:
    return ", ".join(product.name for product in products)


def _show_result(output: Console, record: FetchRecord, out: Path, asked: int) -> None:
    done = asked - len(record.failed)
    output.print(f"{out}: {done:,} of {counted(asked, 'product')} complete and checked", highlight=False)
    for name, reason in record.failed.items():
        output.print(f"  failed  {name}: {reason}", style="red", highlight=False)
    if record.failed:
        output.print("Run the same command again to retry.")


def _draw(frame: gpd.GeoDataFrame, plot: Path) -> None:
    from reben_dask.report.selection_map import draw_selection  # noqa: PLC0415

    draw_selection(frame, plot)


def _show_landcover(path: str) -> None:
    from reben_dask.sources.landcover import open_landcover  # noqa: PLC0415

    if not path:
        click.echo(LANDCOVER_HELP)
        return
    found = open_landcover(path)
    click.echo(
        f"{found.path}: {counted(found.polygons, 'polygon')}, {found.crs}, layer {found.layer}, codes in "
        f"{found.code_column}. Give it to: reben run --landcover {path}"
    )
