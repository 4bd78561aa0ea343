"""What a dataset folder holds that can be made again: results of earlier checks, old indices, unfinished files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .store import Store

UNFINISHED = 3600   # seconds after which a temporary file has no writer any more


@dataclass(frozen=True)
class Leftover:
    """One file that nothing in force needs."""

    kind: str       # result, index, unfinished or rows
    path: Path
    size: int       # bytes


def leftovers(store: Store, *, versions: bool = False) -> list[Leftover]:
    """Return the files that may go, by kind and name.

    `result`: flags and signals of other rows or options than those of the last check. `index`: words of rows that are
    no longer the newest. `unfinished`: temporary files of writes that were stopped over an hour ago. `rows`, only
    with `versions`: row versions but the newest, the one last checked and those that these rest on, as rows were added
    to them; `diff` can no longer name them. Verdicts, edits, vetted sets, runs and embeddings are never among them.
    Raises nothing for files that vanish meanwhile.
    """
    found = [*_results(store), *_indices(store), *_unfinished(store), *(_rows(store) if versions else ())]
    out = []
    for kind, path in found:
        try:
            out.append(Leftover(kind, path, path.stat().st_size))
        except FileNotFoundError:
            continue
    return out


def clean(store: Store, *, versions: bool = False) -> list[Leftover]:
    """Remove what `leftovers` names and return it. Raises CurationError while a check runs on the folder."""
    with store.checking(alone=True), store.changing():
        gone = leftovers(store, versions=versions)
        for one in gone:
            one.path.unlink(missing_ok=True)
        return gone


def sums(found: Sequence[Leftover]) -> dict[str, dict[str, int]]:
    """Return files and bytes by kind."""
    out: dict[str, dict[str, int]] = {}
    for one in found:
        of = out.setdefault(one.kind, {"files": 0, "bytes": 0})
        of["files"] += 1
        of["bytes"] += one.size
    return out


def _results(store: Store) -> Iterator[tuple[str, Path]]:
    current = store.current()
    if current is None:         # a first check was stopped: what it finished is what the next one goes on from
        return
    for folder in ("flags", "signals"):
        kept = {f"{key}.arrow" for key in current[folder].values()}
        for path in sorted((store.path / folder).glob("*.arrow")):
            asked = path.name.startswith("asked.") and path.stem.endswith((store.rows_hash(), current["rows_hash"]))
            if path.name not in kept and not asked:
                yield "result", path


def _indices(store: Store) -> Iterator[tuple[str, Path]]:
    for path in sorted((store.path / "similar").glob("words-*.arrays")):
        if store.versions() and path.stem != f"words-{store.rows_hash()}":
            yield "index", path


def _unfinished(store: Store) -> Iterator[tuple[str, Path]]:
    now = time.time()
    for path in sorted(store.path.rglob(".*.part")):
        if path.is_file() and not path.is_symlink() and now - path.stat().st_mtime > UNFINISHED:
            yield "unfinished", path


def _rows(store: Store) -> Iterator[tuple[str, Path]]:
    current = store.current()
    wanted = {*store.versions()[-1:], *([current["rows_version"]] if current else [])}
    kept = {part for version in wanted & set(store.versions()) for part in store.parts(version)}
    for version in store.versions():
        if version not in kept:
            path = store.rows_path(version)
            yield from (("rows", path.with_suffix(".json")), ("rows", path))     # a version without its note is none
