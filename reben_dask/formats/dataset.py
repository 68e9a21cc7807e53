"""Artefacts in the folder of a dataset, and the run record."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reben_dask.atomic import write_text
from reben_dask.errors import InputError

CUBES = "cubes.zarr"
TABLE = "patches.parquet"
METADATA_FILE = "metadata.parquet"
FLAGGED_METADATA_FILE = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
LMDB = "lmdb"
STATISTICS = "statistics.json"
CATALOGUE = "stac"
"""Folder of STAC items of patches and tiles."""

CARD = "README.md"
CARD_BESIDE = "dataset_card.md"
"""Name of the card beside a README.md that this program did not write."""

CARD_KEY = "reben_dask"
"""Key in the front matter of a card that identifies it."""

CROISSANT = "croissant.json"
RUN = "run"
REPORT = "report"
"""Folder of the report, which is made afterwards; a new job removes that of an earlier dataset."""

ARTEFACTS = (CUBES, TABLE, METADATA_FILE, FLAGGED_METADATA_FILE, CATALOGUE, LMDB, STATISTICS, CARD, CROISSANT, RUN)
"""Outputs of a job, in the order of publication; the run record comes last."""

DESCRIPTIONS = {
    CUBES: "Pixels and reference maps, Zarr v3, one group per tile",
    TABLE: "Every candidate patch with its status and reason",
    METADATA_FILE: "Clear patches",
    FLAGGED_METADATA_FILE: "Patches that are covered by snow, cloud or shadow",
    CATALOGUE: "Catalogue of the kept patches and the tiles, STAC-GeoParquet",
    LMDB: "Bands, reference maps and Sentinel-1 partners as safetensors, by name",
    STATISTICS: "Statistics of clear patches by band and split, and by class",
}


def is_card(path: Path) -> bool:
    """Test for a card of this program: its front matter has the key :data:`CARD_KEY`."""
    try:
        with path.open(encoding="utf-8") as file:
            head = file.read(_MOST_FRONT_MATTER)
    except (OSError, ValueError):
        return False
    front, end, _ = head.removeprefix("---\n").partition("\n---")
    return head.startswith("---\n") and bool(end) and f"\n{CARD_KEY}:" in f"\n{front}"


RECORD_FILE, RECIPE_FILE, COUNTS_FILE = "record.json", "recipe.yaml", "counts.csv"
PERFORMANCE_FILE, COMPARISON_FILE = "performance.html", "comparison.parquet"
HISTOGRAMS_FILE = "histograms.parquet"
"""Pixels of clear patches by band, split and value; see :mod:`~reben_dask.formats.statistics`."""

RECORD = f"{RUN}/{RECORD_FILE}"

ORIGIN, FAILURES = "origin", "failures"
"""Keys of the run record that a later job reads."""

BUILDING, LOCK, STATE = ".building", ".lock", "state"
"""Hidden folder of an unfinished job, its lock, and the folder of markers in the hidden folder."""

FORMAT = 3
"""Version of all files in the folder of a dataset."""


_MOST_FRONT_MATTER = 65_536
_LOGIN = re.compile(r"(?<=://)[^/\s@]*@")
_QUERY = re.compile(r"(://[^\s?#]*)[?#]\S*")
_FOLDERS = re.compile(r"(?<![\w:/.])/(?:[^\s/]+/)+")


def without_credentials(text: str) -> str:
    """Remove user, password and query from the URLs in a text; they may hold keys and signatures."""
    return _QUERY.sub(r"\1", _LOGIN.sub("", text))


class _Part(BaseModel):
    """Part of the record; unknown keys are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class RecordedTile(_Part):
    """A Sentinel-2 product of a dataset."""

    tile: str
    path: str
    metadata_sha256: str
    size_m_yx: tuple[int, int] | None = None
    failed_quality: str | None = None
    """Quality indicator that it failed, so that all of its patches are rejected."""
    boa_add_offset: int | None = None
    """Offset in DN of the product's numbers, before a recipe harmonizes them."""
    boa_offset_source: str | None = None


class RecordedMap(_Part):
    """The land-cover map of a dataset."""

    path: str = ""
    crs: str = ""
    polygons: int | None = None
    about: str = ""
    source: dict[str, Any] = Field(default={})
    """Identity of the given file: ``name``, ``layer`` and others."""


class RecordedInputs(_Part):
    """Inputs of a run."""

    tiles: tuple[RecordedTile, ...]
    landcover: RecordedMap
    countries: str | None = None
    country_list: tuple[str, ...] | None = None
    """Countries used; ``None`` for all in the file."""

    layers: dict[str, str] = Field(default={})
    sentinel1: str | None = None
    published: tuple[str, ...] = ()
    pairs: str | None = None
    snow_list: str | None = None
    cloud_list: str | None = None


class FailedTile(_Part):
    """A tile that could not be built."""

    tile: str
    error: str
    tries: int


class RunRecord(_Part):
    """Contents of ``run/record.json``: inputs, results, versions and times of a run."""

    format: int
    finished: str
    """ISO 8601, UTC."""
    title: str = ""
    recipe: dict[str, Any]
    classes: tuple[str, ...]
    class_of_code: dict[int, str | None]
    """Class of each value of reference maps; ``None`` for values without a label."""
    value_of_code: dict[str, int] = Field(default={})
    """Value in reference maps of each code of the land-cover map."""
    color_of_value: dict[int, str] = Field(default={})
    """Colours of the nomenclature, as ``#rrggbb``."""
    inputs: RecordedInputs
    failures: tuple[FailedTile, ...] = ()
    exports: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    counts: dict[str, dict[str, int]] = Field(default={})
    """Patches by measure (``status``, ``reason``, ``split``, …) and value."""
    seconds: dict[str, float] = Field(default={})
    """Wall time by step of the last attempt."""
    workers: str = ""
    versions: dict[str, str] = Field(default={})
    origin: dict[str, Any] = Field(default={})
    """Identity of the inputs, by which a later job recognises the dataset."""

    @property
    def public_warnings(self) -> tuple[str, ...]:
        """Warnings without folders and credentials."""
        return tuple(_FOLDERS.sub("", without_credentials(text)) for text in self.warnings)

    @property
    def usable_tiles(self) -> tuple[RecordedTile, ...]:
        """Tiles that passed their quality indicators."""
        return tuple(tile for tile in self.inputs.tiles if tile.failed_quality is None)

    def write(self, folder: Path) -> None:
        """Write ``record.json`` into a folder."""
        content = self.model_dump(mode="json")
        write_text(folder / RECORD_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, out: Path) -> Self:
        """Read the record of ``out``; :class:`InputError` if it is missing, damaged, or of another format version."""
        path = out / RECORD
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            raise InputError(f"{out} has no record of its run ({RECORD}).") from None
        except ValueError as error:
            raise InputError(f"The run record {path} is damaged ({error}).") from None
        written = content.get("format", 1) if isinstance(content, dict) else None
        if written is not None and written != FORMAT:
            raise InputError(
                f"{out} has format {written}, and this version reads format {FORMAT}; build the dataset again, or use "
                "the version of reben_dask that wrote it."
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "content"
            raise InputError(f"The run record {path} is damaged ({key}: {first['msg']}).") from None

    def tile_size_m(self, tile: str) -> tuple[int, int] | None:
        """Height and width of a whole tile in metres, if recorded."""
        return next((entry.size_m_yx for entry in self.inputs.tiles if entry.tile == tile), None)
