"""A vetted set as one file to download: what is in it, how big it is, the zip."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

LIMIT = 100_000_000     # bytes of a set that is offered for download; a larger one is taken from its folder
DATE = (1980, 1, 1, 0, 0, 0)    # of every file: equal sets give equal zips


def files_of(folder: Path) -> dict[str, int]:
    """Return {path inside the folder: bytes}, in the order of the names."""
    return {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}


def zipped(folder: Path, name: str) -> bytes:
    """Return a zip of the folder; its files lie in a folder `name`."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for file in files_of(folder):
            z.writestr(zipfile.ZipInfo(f"{name}/{file}", DATE), (folder / file).read_bytes(), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def size(n: int) -> str:
    """Return bytes as a person reads them."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= least:
            return f"{n / least:.1f} {unit}"
    return f"{n} bytes"
