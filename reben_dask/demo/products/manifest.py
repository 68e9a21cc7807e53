"""The manifest of a product: a checksum of each of its files."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST_FILE = "manifest.safe"
_SCHEMA = "urn:ccsds:schema:xfdu:1"


def write_manifest(safe: Path) -> None:
    """Write ``manifest.safe`` for the files that are in a ``.SAFE`` folder."""
    root = ET.Element("xfdu:XFDU", {"xmlns:xfdu": _SCHEMA})
    section = ET.SubElement(root, "dataObjectSection")
    for file in sorted(path for path in safe.rglob("*") if path.is_file()):
        content = file.read_bytes()
        item = ET.SubElement(section, "dataObject", {"ID": f"{file.stem}_Data"})
        stream = ET.SubElement(item, "byteStream", {"size": str(len(content))})
        href = f"./{file.relative_to(safe).as_posix()}"
        ET.SubElement(stream, "fileLocation", {"href": href, "locatorType": "URL"})
        digest = hashlib.sha3_256(content).hexdigest().upper()
        ET.SubElement(stream, "checksum", {"checksumName": "SHA3-256"}).text = digest
    (safe / MANIFEST_FILE).write_bytes(ET.tostring(root, encoding="UTF-8", xml_declaration=True))
