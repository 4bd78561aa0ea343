"""Saved views: a filter and order under a name, a small file each in FOLDER/views, so that they travel with the set."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curation.errors import CurationError
from curation.store import write_json

NAME = re.compile(r"\w[\w ().,+-]{0,59}")


@dataclass(frozen=True)
class View:
    """A saved view. `place` = {part of the address: value}, None when the file cannot be read."""

    name: str
    place: dict[str, Any] | None
    by: str
    at: str         # UTC, ISO 8601


def save(folder: Path, name: str, place: Mapping[str, Any], *, by: str) -> None:
    """Keep a view; one of the same name is replaced. Raises CurationError for a name that cannot be a file's."""
    write_json(_path(folder, name), {"place": dict(place), "by": by, "at": datetime.now(UTC).isoformat(timespec="seconds")})


def listed(folder: Path) -> list[View]:
    """Return the views of a folder by name."""
    return [_read(path) for path in sorted((folder / "views").glob("*.json"), key=lambda p: p.stem.casefold())]


def delete(folder: Path, name: str) -> None:
    """Remove a view; nothing happens when it is gone already."""
    _path(folder, name).unlink(missing_ok=True)


def _path(folder: Path, name: str) -> Path:
    name = " ".join(name.split())
    if not NAME.fullmatch(name):
        raise CurationError(f"{name[:70]!r} cannot be the name of a view", "up to 60 letters, digits, spaces and ( ) . , + - _")
    return folder / "views" / f"{name}.json"


def _read(path: Path) -> View:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return View(path.stem, dict(held["place"]), str(held.get("by", "")), str(held.get("at", "")))
    except (ValueError, KeyError, TypeError):      # written by hand: it is listed, so that it can be deleted
        return View(path.stem, None, "", "")
