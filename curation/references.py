"""The texts that rows must not repeat: a file the user names, else the battery of the spec."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from . import formats
from .errors import CurationError
from .spec import Spec

REFERENCES = pa.schema([("source", pa.string()), ("text", pa.string())])
WAY_OUT = "give JSON lines with a field `text`, or a file that curation import reads: contamination.reference=FILE"


def reference_file(file: str, spec: Spec, folder: Path | None) -> tuple[Path | None, bool]:
    """Return (file of the references, whether it is the spec's battery); None when there is none.

    A relative path is taken from the working directory, then from the dataset folder.
    """
    if file:
        path = Path(file)
        if not path.exists() and folder is not None and (folder / path).exists():
            path = folder / path
        if not path.exists():
            raise CurationError(f"contamination.reference: {file}: no such file", WAY_OUT)
        return path, False
    if spec.battery.file is None or folder is None or not (folder / spec.battery.file).is_file():
        return None, True
    return folder / spec.battery.file, True


def references_of(file: str, spec: Spec, folder: Path | None = None) -> pa.Table:
    """Return REFERENCES: the texts that rows must not repeat, from a file, else from the battery, else none."""
    path, battery = reference_file(file, spec, folder)
    if path is None:
        return REFERENCES.empty_table()
    lines = _reference_lines(path) if path.is_file() else None
    if lines is None:
        try:
            batches = [b.select(["source", "instruction", "input"]) for b in formats.read(path)]
        except CurationError as e:
            raise CurationError(e.what, WAY_OUT) from None
        table = pa.Table.from_batches(batches)
        given = table["input"].to_pylist()
        text = [f"{i}\n{x}" if x else i for i, x in zip(table["instruction"].to_pylist(), given, strict=True)]
        lines = [(path.name, t) for t in text]
    source, text = [s for s, _ in lines], [t for _, t in lines]
    if not any(t.strip() for t in text):
        raise CurationError(f"{path}: no line holds text", WAY_OUT)
    return pa.table({"source": ["battery"] * len(text) if battery else source, "text": text}, schema=REFERENCES)


def _reference_lines(path: Path) -> list[tuple[str, str]] | None:
    """Return [(source, text)] of JSON lines with `text` or with turns; None when the file is of another kind."""
    data = path.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError) as e:
            raise CurationError(f"{path}: broken gzip: {e}", "fetch or write the file again") from None
    if not data.strip():
        raise CurationError(f"{path}: the file is empty", WAY_OUT)
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start == b"[":
        return _reference_array(path, data.removeprefix(b"\xef\xbb\xbf"))
    if start != b"{":
        return None
    out: list[tuple[str, str]] = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as e:
            if not out:
                return None  # one JSON document over several lines, say
            raise CurationError(f"{path}:{number}: not JSON: {e}", "mend the line or leave it out") from None
        text = _reference_text(value)
        if text is None:
            if not out:
                return None  # rows: `formats.read` knows them, or says what is wrong
            raise CurationError(f"{path}:{number}: no field `text` with a string in it", WAY_OUT)
        out.append((_source(value, path), text))
    return out


def _reference_array(path: Path, data: bytes) -> list[tuple[str, str]] | None:
    """Return [(source, text)] of a JSON array of objects with `text` or with turns; None when it holds something else."""
    try:
        values = json.loads(data)
    except ValueError:
        return None  # `formats.read` says what is wrong, and where
    texts = [_reference_text(value) for value in values]
    if not any(t is not None for t in texts):
        return None
    for number, text in enumerate(texts, 1):
        if text is None:
            raise CurationError(f"{path}: entry {number}: no field `text` with a string in it", WAY_OUT)
    return [(_source(value, path), text) for value, text in zip(values, texts, strict=True) if text is not None]


def _source(value: dict[str, Any], path: Path) -> str:
    """Return what a reference is said to come from: its `benchmark` or `source`, else the name of the file."""
    return next((value[k] for k in ("benchmark", "source") if isinstance(value.get(k), str)), path.name)


def _reference_text(value: Any) -> str | None:
    """Return the text of a reference: its `text`, or the last user turn of a probe."""
    if not isinstance(value, dict):
        return None
    text = value.get("text")
    turns = value.get("messages")
    if text is None and isinstance(turns, list):
        asked = [m.get("content") for m in turns if isinstance(m, dict) and m.get("role") == "user"]
        text = asked[-1] if asked else None
    return text.encode("utf-8", "replace").decode() if isinstance(text, str) else None
