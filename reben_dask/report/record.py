"""What the record of a run says of a dataset, without anything that is nobody's business."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

RECORD = Path("run") / "record.json"

_LOGIN = re.compile(r"(?<=://)[^/\s@]*@")
_QUERY = re.compile(r"(://[^\s?#]*)[?#]\S*")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class Record:
    """The record of a run, as far as it is there and can be read.

    Parameters
    ----------
    content : mapping of str to Any
        What stands in it; empty if there is none.
    missing : str or None
        A sentence that says why there is none.
    """

    content: Mapping[str, Any] = field(default_factory=dict)
    missing: str | None = None

    def part(self, *keys: str) -> Any:
        """What stands under some keys, one inside the other; an empty mapping where nothing does."""
        found: Any = self.content
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return {} if found is None else found

    def text(self, *keys: str) -> str:
        """A word or number under some keys, without credentials; empty where there is none."""
        found = self.part(*keys)
        return "" if isinstance(found, (Mapping, list)) else without_credentials(str(found))

    @property
    def classes_of_codes(self) -> dict[int, str | None]:
        """Class of each code of the reference maps; ``None`` where it carries no label."""
        return {int(code): name for code, name in self.part("class_of_code").items()}

    def tile_size_m(self, tile: str) -> tuple[int, int] | None:
        """Height and width of a whole tile in metres, if the record has them."""
        for entry in self.part("inputs", "tiles") or ():
            if entry.get("tile") == tile and entry.get("size_m_yx"):
                height, width = entry["size_m_yx"]
                return int(height), int(width)
        return None


def read_record(out: Path) -> Record:
    """Read the record of a dataset; one that is missing or damaged is as good as none, and says so."""
    try:
        content = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except OSError:
        return Record(
            missing=f"The dataset has no record of its run ({RECORD}), so what it was made from is not known."
        )
    except ValueError:
        content = None
    if not isinstance(content, dict):
        return Record(missing=f"The record of the run ({RECORD}) is damaged, so what was built from what is not known.")
    return Record(content)


def without_credentials(text: str) -> str:
    """A text in which addresses have lost their user, password and query, where keys and signatures may stand."""
    return _QUERY.sub(r"\1", _LOGIN.sub("", text))


def file_name(path: str) -> str:
    """How a file is called: its name alone, as folders tell more of a machine than of a file; of an address all of it.

    Credentials are left out.
    """
    return without_credentials(path) if _ADDRESS.search(path) else PurePath(path).name
