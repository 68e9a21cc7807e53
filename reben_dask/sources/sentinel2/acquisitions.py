"""Choice among products of one acquisition: copies, processing baselines and data strips."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from reben_dask.errors import InputError
from reben_dask.sources.remote import without_secrets
from reben_dask.sources.sentinel2.tile import PRODUCT, Form, Tile

OWN_BASELINE = "99.99"
"""Baseline of products of a local sen2cor, which does not count as newer than any other."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Choice:
    """Products of a dataset, and notes about those that are left out."""

    tiles: tuple[Tile, ...]
    """Sorted by name; names are unique."""
    notes: tuple[str, ...]


def choose_products(
    tiles: Iterable[Tile],
    *,
    is_published: Callable[[str], bool] = lambda _: False,
    keep_reprocessed: bool = False,
) -> Choice:
    """Use each acquisition once.

    An identical product that is given twice is used once. If an acquisition (satellite, sensing start, relative orbit
    and MGRS tile) has several baselines, the published one is used, else the newest; 99.99 only if it is the only one.
    If a data strip was generated twice, the newest generation is used. Different data strips of one tile are all used:
    the earliest keeps the name of the tile, names of others end with the last timestamp of their product.

    Parameters
    ----------
    tiles : iterable of Tile
        All products.
    is_published : callable
        Tests if a tile of this name has published patches.
    keep_reprocessed : bool
        Keep all baselines.

    Raises
    ------
    InputError
        If two products of one name differ.
    """
    once, notes = _without_copies(tiles)
    if not keep_reprocessed:
        once, more = _one_baseline(once, is_published)
        notes += more
    once, more = _name_strips(once)
    return Choice(tuple(sorted(once, key=lambda tile: tile.name)), (*notes, *more))


def acquisition_of(tile: Tile) -> str:
    """Name of a product without its last timestamp, which data strips of one acquisition share."""
    return tile.product.rpartition("_")[0]


def _grouped(tiles: Iterable[Tile], key: Callable[[Tile], K]) -> dict[K, list[Tile]]:
    groups: dict[K, list[Tile]] = defaultdict(list)
    for tile in tiles:
        groups[key(tile)].append(tile)
    return groups


def _without_copies(tiles: Iterable[Tile]) -> tuple[list[Tile], list[str]]:
    chosen, copied = [], []
    for product, copies in _grouped(tiles, lambda tile: tile.product).items():
        # An incomplete copy gives way, a zip file to the folder unpacked from it, and other forms to the original.
        best, *others = sorted(copies, key=lambda tile: (-len(tile.images), tile.form, str(tile.location)))
        if differing := [tile for tile in others if _has_other_metadata(tile, best)]:
            raise InputError(
                f"The product {product} is given more than once, with different metadata: {_place(best)}, "
                f"{_place(differing[0])}; leave one of them out."
            )
        chosen.append(best)
        if others:
            copied.append(f"{product} ({_place(best)})")
    if not copied:
        return chosen, []
    return chosen, [f"Products given more than once are used once, from the path named here: {_listed(copied)}."]


def _has_other_metadata(tile: Tile, best: Tile) -> bool:
    """Compare copies of one kind; forms of a product state its metadata differently."""
    kinds = {Form.ZIP: Form.FOLDER}
    same = kinds.get(tile.form, tile.form) is kinds.get(best.form, best.form)
    return same and tile.metadata_sha256 != best.metadata_sha256


def _place(tile: Tile) -> str:
    return without_secrets(tile.location)


def _one_baseline(tiles: Sequence[Tile], is_published: Callable[[str], bool]) -> tuple[list[Tile], list[str]]:
    chosen, left_out = [], []
    for group in _grouped(tiles, _acquired).values():
        baselines = {tile.baseline: acquisition_of(tile) for tile in group}
        published = {baseline for baseline, name in baselines.items() if len(baselines) > 1 and is_published(name)}
        best = max(baselines, key=lambda baseline: (baseline in published, baseline != OWN_BASELINE, _number(baseline)))
        chosen += [tile for tile in group if tile.baseline == best]
        why = "published" if best in published else "newest"
        left_out += [f"{tile.product} ({why}: {best})" for tile in group if tile.baseline != best]
    if not left_out:
        return chosen, []
    taken = "If an acquisition has several processing baselines, one is used"
    return chosen, [f"{taken}; left out, unless --keep-reprocessed is given: {_listed(left_out)}."]


def _name_strips(tiles: Sequence[Tile]) -> tuple[list[Tile], list[str]]:
    named, older, notes = [], [], []
    for acquisition, group in _grouped(tiles, acquisition_of).items():
        strips = _grouped(group, lambda tile: tile.strip)
        newest = {strip: max(of_strip, key=lambda tile: tile.product) for strip, of_strip in strips.items()}
        older += [tile.product for tile in group if tile is not newest[tile.strip]]
        first, *others = [newest[strip] for strip in sorted(newest)]
        named += [first, *(replace(tile, name=tile.product) for tile in others)]
        if others:
            notes.append(
                f"{acquisition} comes in {len(newest)} data strips, and all are built: patches of the later ones are "
                f"named after their whole product ({_listed([tile.product for tile in others])})."
            )
    if older:
        notes.append(f"Data strips that were generated twice are used once; left out as older: {_listed(older)}.")
    return named, notes


def _acquired(tile: Tile) -> tuple[str, ...]:
    """Satellite, level and sensing start, relative orbit and MGRS tile."""
    name = PRODUCT.fullmatch(tile.product)
    return (name["start"], name["place"]) if name else (tile.product,)


def _number(baseline: str) -> tuple[int, ...]:
    return tuple(int(part) for part in baseline.split(".") if part.isdigit())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names))
