"""The way from no data to checked: an upload kept in the folder, what a file holds and how its rows would be read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from curation import formats
from curation.errors import CurationError
from curation.store import atomic, write_json

#: Endings that say how a file is to be read; of any other name nothing is kept.
ENDINGS = (*(f".{a}{b}" for a in ("jsonl", "ndjson", "json", "csv", "tsv", "txt") for b in (".gz", "")),
           ".parquet", ".arrow", ".feather", ".gz")
#: Parts of a row that a field can be, and what they are.
PARTS = {"instruction": "Prompt", "input": "Input beside the prompt", "response": "Response", "messages": "Whole conversation",
         "system": "System turn", "family": "Family", "split": "Split", "id": "Your own id"}
SHOWN = 5           # rows of a preview
CUT = 160           # characters of a text in it
NAME = re.compile(r"[0-9a-f]{16}(\.[a-z.]{2,9})?")
_PLAIN = re.compile(r"[^,={\s][^,={]*[^,={\s]|[^,={\s]")


@dataclass(frozen=True)
class Preview:
    """How a file would be read. `problem`: why it cannot be (what, hint); `bad`: the first line that would be refused."""

    fields: list[str]
    detected: str = ""
    rows: list[dict[str, str]] = field(default_factory=list)
    problem: tuple[str, str] | None = None
    bad: str = ""


def keep_upload(folder: Path, name: str, data: bytes | memoryview) -> str:
    """Write an uploaded file into FOLDER/uploads and return its name there: 16 hex digits of its content and an ending.

    The name it was uploaded under is a note beside it and never a part of a path.
    """
    mark = hashlib.sha256(data).hexdigest()[:16]
    ending = next((e for e in ENDINGS if name.lower().endswith(e)), "")
    path = folder / "uploads" / f"{mark}{ending}"
    if not path.exists():
        with atomic(path) as f:
            f.write(data)
    write_json(folder / "uploads" / f"{mark}.about", {"name": name[:200]})
    return path.name


def upload_at(folder: Path, name: str) -> Path | None:
    """Return the path of an uploaded file by its name there, None when there is none (the name comes from an address)."""
    path = folder / "uploads" / name
    return path if NAME.fullmatch(name) and path.is_file() else None


def given_name(folder: Path, name: str) -> str:
    """Return the name under which a file was uploaded; of another file the name itself."""
    about = folder / "uploads" / f"{name[:16]}.about"
    if NAME.fullmatch(name) and about.exists():
        return str(json.loads(about.read_text(encoding="utf-8"))["name"])
    return name


def preview(path: Path, mapping: Mapping[str, str]) -> Preview:
    """Return what a file holds and its first rows as they would be read with this mapping {part: field}."""
    fields: list[str] = []
    try:
        detected, rows = _first(path, mapping, fields, skip_bad=False)
        return Preview(fields, detected, rows)
    except CurationError as e:
        problem = e
    if problem.hint.endswith(formats.SKIP_HINT):
        try:
            detected, rows = _first(path, mapping, fields, skip_bad=True)
            return Preview(fields, detected, rows, bad=problem.what)
        except CurationError as e:
            problem = e
    return Preview(fields, problem=(problem.what, problem.hint))


def _first(path: Path, mapping: Mapping[str, str], fields: list[str], *, skip_bad: bool) -> tuple[str, list[dict[str, str]]]:
    reading = formats.read(path, mapping=mapping, skip_bad=skip_bad, workers=1, fields=fields)
    batches = iter(reading)
    try:
        found = [row for batch in islice(batches, 1) for row in batch.slice(0, SHOWN).to_pylist()]
    finally:
        batches.close()     # type: ignore[attr-defined]  # the file is let go at once
    return reading.detected, [_shown(row) for row in found]


def _shown(row: Mapping[str, Any]) -> dict[str, str]:
    texts = {name: row[name] or "" for name in ("system", "instruction", "input", "response", "family", "split")}
    if len(row["messages"]) > 3:
        texts["turns"] = str(len(row["messages"]))
    return {name: text[:CUT] + (" …" if len(text) > CUT else "") for name, text in texts.items() if text}


def map_arguments(mapping: Mapping[str, str]) -> list[str]:
    """Return the options that hand a mapping to `curation import`; names with , = or { go as one JSON object."""
    if all(_PLAIN.fullmatch(name) for name in mapping.values()):
        return [x for part, name in mapping.items() for x in ("--map", f"{part}={name}")]
    return ["--map", json.dumps(dict(mapping), ensure_ascii=False)]


def refused(folder: Path, most: int = 20) -> tuple[int, Sequence[dict[str, Any]]]:
    """Return how many lines the last import put aside, and the first of them: [{"line", "reason", "text"}, ...]."""
    path = folder / "rejected.jsonl"
    if not path.exists():
        return 0, []
    with path.open("rb") as lines:
        first = [json.loads(line) for line in islice(lines, most)]
        return len(first) + sum(1 for _ in lines), first
