"""The notebooks: clean in git, and executed from beginning to end by a new kernel."""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from IPython.core.inputtransformer2 import TransformerManager
from matplotlib.image import imread

from reben_dask.demo import DemoRegion
from reben_dask.errors import InputError
from reben_dask.report.views import view_classes, view_patches

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
FIGURES = {
    "1-build-a-dataset.ipynb": 5,
    "2-on-a-cluster.ipynb": 2,
    "3-use-a-dataset.ipynb": 3,
    "4-train-a-network.ipynb": 2,
}
CELL_TIMEOUT_S = 300
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|mnt|data|opt|usr|Users)/|[A-Z]:\\")


@dataclass(frozen=True)
class Executed:
    """Executed notebooks and where they wrote."""

    work: Path
    notebooks: dict[str, Any]

    def outputs(self, name: str) -> list[Any]:
        return [output for cell in self.notebooks[name].cells for output in cell.get("outputs", ())]

    def text(self, name: str, stream: str) -> str:
        return "".join(output.text for output in self.outputs(name) if output.get("name") == stream)


def _read(name: str) -> Any:
    # Takes 4 s to import: it brings jsonschema, which compiles grammars.
    import nbformat  # noqa: PLC0415

    return nbformat.read(FOLDER / name, as_version=4)


def _execute(name: str, folder: Path) -> Any:
    """Execute a notebook; networks are trained for two epochs."""
    from nbclient import NotebookClient  # noqa: PLC0415 - as nbformat

    notebook = _read(name)
    for cell in notebook.cells:
        cell.source = re.sub('"epochs": [0-9]+', '"epochs": 2', cell.source)
    settings = {**os.environ, "IPYTHONDIR": str(folder / ".ipython"), "DASK_CONFIG": str(folder / "no-settings")}
    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=settings)
    return notebook


@pytest.fixture(scope="module")
def executed(small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> Executed:
    """All notebooks in their order, in one folder, as a person goes through them who has made the region before."""
    folder = tmp_path_factory.mktemp("notebooks")
    one_tile = shutil.ignore_patterns("*_T33UWP_*")
    shutil.copytree(small_region.s2.parent, folder / "work" / "region", ignore=one_tile)
    return Executed(folder / "work", {name: _execute(name, folder) for name in NOTEBOOKS})


# In git


def test_the_notebooks_are_those_that_the_readme_names() -> None:
    assert list(FIGURES) == NOTEBOOKS
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert all(name in readme for name in NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_committed_notebooks_are_clean(name: str) -> None:
    import nbformat  # noqa: PLC0415 - see _read

    notebook = _read(name)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None and not cell.metadata for cell in cells)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert not MACHINE_PATH.search("\n".join(cell.source for cell in notebook.cells))
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_use_public_names_only(name: str) -> None:
    cells = (cell.source for cell in _read(name).cells if cell.cell_type == "code")
    code = "\n".join(TransformerManager().transform_cell(cell) for cell in cells)
    nodes = list(ast.walk(ast.parse(code)))
    imported = [alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    attributes = [node.attr for node in nodes if isinstance(node, ast.Attribute)]
    assert not [found for found in (*imported, *attributes) if found.startswith("_")]


# Executed


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_cell_succeeds_and_figures_are_there(executed: Executed, name: str) -> None:
    outputs = executed.outputs(name)
    assert not [output for output in outputs if output.output_type == "error"]
    assert "Traceback" not in executed.text(name, "stderr")
    images = [imread(io.BytesIO(base64.b64decode(found))) for output in outputs if (found := output.get("data", {}).get("image/png"))]  # noqa: E501  # fmt: skip
    assert len(images) == FIGURES[name]
    for image in images:
        assert min(image.shape[:2]) > 200
        assert image.shape[1] < 1400
        assert len(np.unique(image[..., :3] @ (1.0, 256.0, 65_536.0))) > 10


def test_nothing_is_written_elsewhere(executed: Executed) -> None:
    assert {path.name for path in executed.work.parent.iterdir()} <= {"work", ".ipython"}


def test_progress_is_one_piece_of_text_that_is_drawn_anew(executed: Executed) -> None:
    outputs = executed.outputs("1-build-a-dataset.ipynb")
    bars = [output.data["text/plain"] for output in outputs if "█" in output.get("data", {}).get("text/plain", "")]
    assert len(bars) == 1
    assert all("█" * 30 in line and "░" not in line for line in bars[0].splitlines())
    text = executed.text("1-build-a-dataset.ipynb", "stdout")
    assert "\x1b" not in text
    assert re.search(r"^Dashboard: http://127\.0\.0\.1:\d+/status$", text, re.MULTILINE)
    assert "Bands to Zarr:" not in text


def test_both_clusters_make_the_same_dataset(executed: Executed) -> None:
    embedded, running = executed.work / "dataset", executed.work / "from-cluster"
    assert (embedded / "metadata.parquet").read_bytes() == (running / "metadata.parquet").read_bytes()
    assert "nothing to do" in executed.text("3-use-a-dataset.ipynb", "stdout")


def test_the_numbers_are_those_of_the_patch_table(executed: Executed) -> None:
    parts = executed.work / "dataset" / "patches.parquet" / "*.parquet"
    counts = duckdb.sql(f"SELECT status, reason, count(*) FROM '{parts}' GROUP BY ALL").fetchall()  # noqa: S608
    shown = next(
        output.data["text/plain"]
        for output in executed.outputs("1-build-a-dataset.ipynb")
        if "too_little_labeled" in output.get("data", {}).get("text/plain", "")
    )
    for _, reason, count in counts:
        assert re.search(rf"{reason or 'NaN'} +{count}$", shown, re.MULTILINE)


# Figures of a dataset, with what the notebooks have built


def test_a_patch_that_is_not_kept_cannot_be_shown(executed: Executed) -> None:
    with pytest.raises(InputError, match=r"^nobody is not a kept patch of "):
        view_patches(executed.work / "dataset", ["nobody"])
    with pytest.raises(InputError, match=r"^No patch is named"):
        view_patches(executed.work / "dataset", [])


def test_patches_without_pixels_cannot_be_shown(executed: Executed, tmp_path: Path) -> None:
    (tmp_path / "patches.parquet").symlink_to(executed.work / "dataset" / "patches.parquet")
    kept = pd.read_parquet(executed.work / "dataset" / "metadata.parquet")["patch_id"][0]
    with pytest.raises(InputError, match=r"cubes\.zarr does not hold the pixels of all these patches"):
        view_patches(tmp_path, [kept])


def test_a_folder_that_is_no_dataset_has_no_classes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a dataset of this program"):
        view_classes(tmp_path)
