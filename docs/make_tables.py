"""Write the tables of ``data.md`` that describe columns, keys and files, from the package's own descriptions.

Run as ``python docs/make_tables.py``; ``--check`` only compares, and fails if a table is out of date.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from reben_dask.formats.bands import BANDS, REFERENCE_MAP, S1_BANDS, ImageKind
from reben_dask.formats.columns import PATCH_TABLE
from reben_dask.formats.dataset import DESCRIPTIONS
from reben_dask.formats.lmdb import keys_of, tensors_of

PAGE = Path(__file__).with_name("data.md")
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
        nodata = "none" if band.nodata is None else f"{band.nodata:g}"
        yield f"`{band.name}`", band.kind.value, f"{band.resolution_m} m", band.dtype, str(band.side_px()), nodata


def key_rows() -> Iterable[Sequence[str]]:
    """Keys of the LMDB."""
    for kind, key in keys_of("<patch_id>", "<s1_name>").items():
        tensors = ", ".join(f"`{name}`" for name in tensors_of(kind))
        yield f"`{key}`", "reference map" if kind is ImageKind.MAP else kind.value, tensors


def file_rows() -> Iterable[Sequence[str]]:
    """Artefacts of a dataset."""
    return ((f"`{name}`", text) for name, text in DESCRIPTIONS.items())


TABLES = {
    "files": (("name", "content"), file_rows),
    "columns": (("column", "type", "in metadata", "meaning"), column_rows),
    "images": (("image", "of", "pixel", "type", "side in pixels", "NODATA"), image_rows),
    "keys": (("key", "of", "tensors"), key_rows),
}


def render(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown of a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def update(text: str) -> str:
    """Replace what stands between the marks of each table."""
    for name, (header, rows) in TABLES.items():
        before, mark, rest = text.partition(f"<!-- table: {name} -->\n")
        _, end, after = rest.partition(END)
        if not (mark and end):
            raise SystemExit(f"{PAGE.name} has no table {name!r}.")
        text = before + mark + render(header, rows()) + end + after
    return text


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, and fail if a table is out of date")
    text = PAGE.read_text(encoding="utf-8")
    updated = update(text)
    if parser.parse_args().check and updated != text:
        sys.exit(f"The tables of {PAGE.name} are out of date; run python docs/make_tables.py.")
    PAGE.write_text(updated, encoding="utf-8")


if __name__ == "__main__":
    main()
