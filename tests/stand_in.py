"""A stand-in of sen2cor's ``L2A_Process``, and L1C products for it: it does what it is told to, product by product."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = "02.11.00"

PROGRAM = r"""#!{python}
import argparse, fcntl, hashlib, json, os, re, shutil, signal, subprocess, sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent

parser = argparse.ArgumentParser(
    prog="L2A_Process.py",
    description="Sentinel-2 Level 2A Processor (Sen2Cor). Version: {version}, created: 2022.09.30, "
    "supporting Level-1C product version 14.2 - 14.9.",
)
parser.add_argument("--resolution", type=int, choices=(10, 20, 60))
parser.add_argument("--output_dir", type=Path)
parser.add_argument("--work_dir", type=Path)
parser.add_argument("--GIP_L2A", type=Path)
parser.add_argument("input_dir", type=Path)
given = parser.parse_args()
l1c = given.input_dir
name = l1c.name.removesuffix(".SAFE")


def parent_of(pid):
    return int(Path(f"/proc/{{pid}}/stat").read_text().rpartition(")")[2].split()[1])


def append(file, content):
    with (HERE / file).open("a") as lines:
        lines.write(json.dumps(content) + "\n")


worker = parent_of(os.getppid())
lock = (HERE / f"worker-{{worker}}").open("w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    append("overlaps", name)
runs = [json.loads(line) for line in (HERE / "runs").read_text().splitlines()]
run = sum(other["name"] == name for other in runs)
gipp = hashlib.sha256(given.GIP_L2A.read_bytes()).hexdigest()
append(
    "runs",
    {{"name": name, "pid": os.getpid(), "worker": worker, "gipp": gipp, "environment": dict(os.environ),
      "folders": [os.getcwd(), str(given.work_dir), str(given.output_dir)], "input": str(l1c)}},
)
told = json.loads((HERE / "behaviours").read_text()).get(name, ["good"])
behaviour = told[min(run, len(told) - 1)]
print(f"Progress[%]: 0.00 : {{behaviour}}", flush=True)

for needed in ("DATASTRIP/*/QI_DATA", "GRANULE/*/AUX_DATA", "HTML"):
    if not list(l1c.glob(needed)):
        sys.exit(f"IOError: no such directory: {{needed}}")
satellite, _, start, _, orbit, tile, _ = name.split("_")
acquisition = f"{{satellite}}_MSIL2A_{{start}}_N9999_{{orbit}}_{{tile}}_"
if list(given.output_dir.glob(acquisition + "*")):
    sys.exit("AttributeError: 'bool' object has no attribute 'text'")
if behaviour == "fails":
    sys.exit("L2A_Process: ERROR: no valid DEM")
if behaviour == "crashes":
    os.kill(os.getpid(), signal.SIGSEGV)
if behaviour == "hangs":
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    append("hanging", [os.getpid(), child.pid])
    signal.pause()
if behaviour == "ends its worker":
    os.kill(worker, signal.SIGKILL)
    signal.pause()
if behaviour != "nothing":
    template = Path((HERE / "template").read_text())
    made = given.output_dir / f"{{acquisition}}20260101T00000{{run}}.SAFE"
    shutil.copytree(template, made, ignore=shutil.ignore_patterns("manifest.safe"))
    xml = (made / "MTD_MSIL2A.xml").read_text().replace(template.name, made.name)
    begin = f"{{start[:4]}}-{{start[4:6]}}-{{start[6:11]}}:{{start[11:13]}}:{{start[13:]}}.024Z"
    xml = re.sub("(<PRODUCT_START_TIME>)[^<]+", r"\g<1>" + begin, xml)
    (made / "MTD_MSIL2A.xml").write_text(xml)
    if behaviour == "empty":
        for image in made.rglob("*.jp2"):
            image.unlink()
print("Progress[%]: 100.00 : Application terminated successfully.")
"""
"""The program: it lies in ``bin`` of its installation, and keeps its notes beside that folder."""


@dataclass(frozen=True)
class StandIn:
    """An installation of the stand-in."""

    root: Path

    @property
    def program(self) -> Path:
        """The stand-in of ``L2A_Process``."""
        return self.root / "bin" / "L2A_Process"

    @property
    def gipp(self) -> Path:
        """The configuration that it brings."""
        return self.root / "lib" / "python2.7" / "site-packages" / "sen2cor" / "cfg" / "L2A_GIPP.xml"

    def tell(self, behaviours: dict[str, Sequence[str]]) -> None:
        """Tell it what to do with products in their first, second, … run; it succeeds with all others."""
        (self.root / "behaviours").write_text(json.dumps(behaviours))

    def noted(self, what: str = "runs") -> list[Any]:
        """Notes that it has made of its runs."""
        path = self.root / what
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def install(root: Path, template: Path, version: str = VERSION) -> StandIn:
    """Install the stand-in; its products are copies of the L2A product ``template``."""
    made = StandIn(root)
    made.program.parent.mkdir(parents=True)
    made.program.write_text(PROGRAM.format(python=sys.executable, version=version))
    made.program.chmod(0o755)
    made.gipp.parent.mkdir(parents=True)
    made.gipp.write_text("<Level-2A_Ground_Image_Processing_Parameter/>\n")
    (root / "template").write_text(str(template))
    (root / "runs").touch()
    made.tell({})
    return made


def write_l1c(folder: Path, name: str, *, drop: Sequence[str] = ()) -> Path:
    """Write what sen2cor looks for in an L1C product, without the empty folders in ``drop``."""
    safe = folder / f"{name}.SAFE"
    for path in ("DATASTRIP/DS/QI_DATA", "GRANULE/L1C/AUX_DATA", "HTML", "GRANULE/L1C/IMG_DATA"):
        (safe / path).mkdir(parents=True)
    for path in ("MTD_MSIL1C.xml", "DATASTRIP/DS/MTD_DS.xml", "GRANULE/L1C/MTD_TL.xml", "GRANULE/L1C/IMG_DATA/B02.jp2"):
        (safe / path).write_text("of no account here")
    for path in drop:
        shutil.rmtree(safe / path)
    return safe


def l1c_names(number: int) -> tuple[str, ...]:
    """Names of L1C products of a tile on different days, in order."""
    days = (f"201807{day:02d}" for day in range(1, number + 1))
    return tuple(f"S2A_MSIL1C_{day}T100031_N0206_R122_T33UVP_{day}T120000" for day in days)


def tile_of(l1c: str) -> str:
    """Name of the tile that sen2cor makes of an L1C product."""
    satellite, _, start, _, orbit, tile, _ = l1c.split("_")
    return f"{satellite}_MSIL2A_{start}_N9999_{orbit}_{tile}"
