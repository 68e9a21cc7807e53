"""Write the tables of columns, keys, files and trees in the documentation, from the package's own descriptions.

Run as ``python docs/make_tables.py``; ``--check`` only compares, and fails if a table is out of date.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from reben_dask.formats.bands import BANDS, REFERENCE_MAP, S1_BANDS, ImageKind
from reben_dask.formats.columns import PATCH_TABLE
from reben_dask.formats.dataset import DESCRIPTIONS
from reben_dask.formats.lmdb import keys_of, tensors_of
from reben_dask.formats.sample_shards import SHARD_FORMS, ShardFile
from reben_dask.formats.trees import DEFAULT_LAYOUT, LAYOUTS
from reben_dask.nomenclature import load_nomenclature
from reben_dask.recipes import load_recipe, shipped_recipes
from reben_dask.training.protocol import ARCHITECTURES

FOLDER = Path(__file__).parent
RECIPES = FOLDER.parent / "reben_dask" / "recipes" / "README.md"
END = "<!-- end -->"


def column_rows() -> Iterable[Sequence[str]]:
    """Columns of the patch table, with their position in the metadata files."""
    for column in PATCH_TABLE:
        yield f"`{column}`", type_name(column.type), str(column.published or ""), column.description


def type_name(kind: pa.DataType) -> str:
    """Name of a type in words."""
    if pa.types.is_list(kind):
        return f"list of {type_name(kind.value_type)}"
    if pa.types.is_struct(kind):
        return f"struct of {', '.join(field.name for field in kind)}"
    return {"string": "text", "double": "float64", "timestamp[us, tz=UTC]": "timestamp"}.get(str(kind), str(kind))


def image_rows() -> Iterable[Sequence[str]]:
    """Images of a patch."""
    for band in (*BANDS.values(), *S1_BANDS.values(), REFERENCE_MAP):
        nodata = "none" if band.nodata is None else f"{band.nodata:g}".replace("nan", "NaN")
        yield f"`{band.name}`", band.kind.value, f"{band.resolution_m} m", band.dtype, str(band.side_px()), nodata


def key_rows() -> Iterable[Sequence[str]]:
    """Keys of the LMDB."""
    for kind, key in keys_of("<patch_id>", "<s1_name>").items():
        tensors = ", ".join(f"`{name}`" for name in tensors_of(kind))
        yield f"`{key}`", "reference map" if kind is ImageKind.MAP else kind.value, tensors


def file_rows() -> Iterable[Sequence[str]]:
    """Artefacts of a dataset."""
    return ((f"`{name}`", text) for name, text in DESCRIPTIONS.items())


def tree_rows() -> Iterable[Sequence[str]]:
    """Trees and tables of each layout, for the first shipped recipe with it, or that of reBEN."""
    recipes = [load_recipe(name) for name in ("reben", *shipped_recipes())]
    for name, layout in LAYOUTS.items():
        chosen = next((recipe for recipe in recipes if recipe.tree == name), recipes[0])
        recipe = chosen.model_copy(update={"tree": name})
        made = recipe.tree_layout(load_nomenclature(recipe.nomenclature), has_sentinel1=True)
        names = ", ".join(f"`{path}`" for path in (*(tree.name for tree in made.trees), *made.tables))
        first_line = str(sys.modules[layout.__module__].__doc__).partition("\n")[0]
        yield f"`tree: {name}`{' (default)' if name == DEFAULT_LAYOUT else ''}", names, first_line.removesuffix(".")


def shard_rows() -> Iterable[Sequence[str]]:
    """Forms of samples in shards."""
    for form in SHARD_FORMS.values():
        yield f"`{form.name}`", f"`{form.name}/{ShardFile('train', 0, 12)}{form.suffix}`, …", form.description


def network_rows() -> Iterable[Sequence[str]]:
    """Networks that can be trained."""
    for name, network in ARCHITECTURES.items():
        made = {"labels": "labels of a patch", "map": "class of each pixel"}[network.task]
        timm_name = f"`{network.timm_name}`" if network.timm_name else "not in timm"
        yield f"`{name}`", network.title, timm_name, made, network.entry


def render(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown of a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tree_names() -> str:
    """Names of the layouts, as a line of a list."""
    names = (f"`{name}`{' (default)' if name == DEFAULT_LAYOUT else ''}" for name in LAYOUTS)
    return f"  {', '.join(names)}\n  "


PAGES: Mapping[Path, Mapping[str, str]] = {
    FOLDER / "data.md": {
        "files": render(("name", "content"), file_rows()),
        "columns": render(("column", "type", "in metadata", "meaning"), column_rows()),
        "images": render(("image", "of", "pixel", "type", "side in pixels", "NODATA"), image_rows()),
        "keys": render(("key", "of", "tensors"), key_rows()),
    },
    FOLDER / "training.md": {
        "networks": render(("`--model`", "network", "in timm", "predicts", "adaptation of 120 px"), network_rows()),
    },
    FOLDER / "guide.md": {
        "trees": render(("with the recipe's", "in `OUT`", "layout"), tree_rows()),
        "shards": render(("`--export`", "in `OUT`", "content"), shard_rows()),
    },
    RECIPES: {"trees": tree_names()},
}
"""Generated parts by page and mark."""


def update(page: Path) -> str:
    """Replace the text between the marks of each generated part of a page."""
    text = page.read_text(encoding="utf-8")
    for name, content in PAGES[page].items():
        before, mark, rest = text.partition(f"<!-- table: {name} -->\n")
        _, end, after = rest.partition(END)
        if not (mark and end):
            raise SystemExit(f"{page.name} has no table {name!r}.")
        text = before + mark + content + end + after
    return text


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, and fail if a table is out of date")
    is_check = parser.parse_args().check
    for page in PAGES:
        updated = update(page)
        if is_check and updated != page.read_text(encoding="utf-8"):
            sys.exit(f"The tables of {page.name} are out of date; run python docs/make_tables.py.")
        page.write_text(updated, encoding="utf-8")


if __name__ == "__main__":
    main()
