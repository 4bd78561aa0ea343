"""Runs checks over rows: cached by what they read, row checks over processes, one file a finished check."""

from __future__ import annotations

import inspect
import json
import logging
import multiprocessing
import os
import signal as signals
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pydantic import BaseModel

from .checks import CHECKS, SIGNAL_UNITS
from .checks.base import RESOURCES, Unit
from .errors import CurationError
from .model import FLAGS, SIGNALS
from .references import reference_file, references_of
from .spec import CheckSettings, Spec, load, options_of
from .store import Store, read_arrow, write_arrow
from .text import nearest
from .vectors import Vectors

log = logging.getLogger(__name__)

#: (name of the check or signal, rows done, rows in all)
Progress = Callable[[str, int, int], None]
BATCH = 4096  # rows a task: small enough for a moving progress bar, large enough to hide the hand-over
IN_PROCESS = 6000  # up to this many rows, starting workers costs more than it saves (about 3 s)


@dataclass(frozen=True)
class Checked:
    """What a check run did."""

    rows: int
    flags: dict[str, int]  # flags by check
    flagged_rows: int
    seconds: float
    cached: tuple[str, ...]  # checks and signals whose result was already there
    ran: tuple[str, ...]
    options: dict[str, dict[str, Any]] = field(default_factory=dict)


def spec_of(store: Store) -> Spec:
    """Return the spec of a dataset folder; an empty spec when it has none."""
    path = store.path / "spec.yaml"
    return load(path, CHECKS) if path.exists() else Spec(name=store.path.resolve().name)


def choose(spec: Spec, only: Sequence[str] | None = None) -> list[Unit]:
    """Return the checks to run: `only`, or all that the spec does not switch off."""
    for id in only or ():
        if id not in CHECKS:
            close = nearest(id, list(CHECKS))
            raise CurationError(
                f"{id!r} is not a check" + (f"; did you mean {close!r}?" if close else ""), "curation checks lists them"
            )
    return [u for id, u in sorted(CHECKS.items()) if (id in only if only else spec.checks.get(id) != "off")]


def overrides_of(settings: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return {check: {option: value}} from `check.option=value` strings; values are read as YAML."""
    import yaml

    out: dict[str, dict[str, Any]] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        check, dot, option = name.rpartition(".")
        if not equals or not dot:
            raise CurationError(f"--set {text!r}: expected check.option=value", "for example --set dup.near.threshold=0.85")
        out.setdefault(check, {})[option] = yaml.safe_load(value)
    for check in out:
        if check not in CHECKS and check not in {u.group for u in CHECKS.values()}:
            close = nearest(check, list(CHECKS))
            raise CurationError(
                f"--set {check}: not a check" + (f"; did you mean {close!r}?" if close else ""), "curation checks lists them"
            )
    return out


def plan(units: Sequence[Unit]) -> list[Unit]:
    """Return the signals that `units` ask for, each after those it asks for itself, then the units."""
    makers = {column: u for u in SIGNAL_UNITS.values() for column in u.gives}
    order: list[Unit] = []

    def add(unit: Unit) -> None:
        for need in unit.needs:
            if need not in RESOURCES:
                assert need in makers, f"{unit.id} asks for signal {need!r}, which no unit gives"
                add(makers[need])
        if unit not in order:
            order.append(unit)

    for unit in [*SIGNAL_UNITS.values(), *units]:
        add(unit)
    return order


def resolve(unit: Unit, spec: Spec, overrides: Mapping[str, Mapping[str, Any]]) -> BaseModel:
    """Return the options of a unit after spec and overrides; `--set group.option` reaches each check that has it."""
    given = {k: v for k, v in overrides.get(unit.group, {}).items() if k in unit.options.model_fields}
    given.update(overrides.get(unit.id, {}))
    return options_of(spec, unit, given)


def switched_on(
    spec: Spec, only: Sequence[str] | None, overrides: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Return the overrides with `on` set for checks that wait to be asked for (option `on`) and are named in `only`."""
    out = dict(overrides)
    for id in only or ():
        if "on" in CHECKS[id].options.model_fields and "on" not in out.get(id, {}):
            out[id] = {**out.get(id, {}), "on": True}
    return out


def severity_of(unit: Unit, spec: Spec) -> str | None:
    """Return the severity that the spec gives a check, None when it leaves the check's own."""
    settings = spec.checks.get(unit.id)
    return settings.severity if isinstance(settings, CheckSettings) else None


# ---- what checks may ask for beside rows and signals


def _resource_hash(need: str, options: BaseModel, spec: Spec, folder: Path | None) -> str:
    """Return what a resource adds to the key of a result: for references the hash of their file."""
    if need != "references":
        return need
    path, battery = reference_file(getattr(options, "reference", ""), spec, folder)
    if path is None:
        return "none"
    mark = xxhash.xxh3_64(b"battery" if battery else path.name.encode())
    for part in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        mark.update(part.read_bytes())
    return mark.hexdigest()


def _resource(need: str, options: BaseModel, spec: Spec, folder: Path | None) -> Any:
    """Return what a check asks for by the name of a resource."""
    if need == "references":
        return references_of(getattr(options, "reference", ""), spec, folder)
    return spec if need == "spec" else Vectors(folder)


def run_unit(unit: Unit, options: BaseModel, rows: pa.Table, resources: Mapping[str, Any], severity: str | None) -> Any:
    """Run one check or signal on rows; return a complete FLAGS table, or {column: Arrow array} for a signal."""
    view = rows.select(["row", "uid", *[c for c in unit.reads if c not in ("row", "uid")]])
    asked = {n: resources[n] for n in unit.needs}
    result = unit.run(view, **asked, **options.model_dump())
    if unit.gives:
        columns = result if isinstance(result, dict) else {unit.gives[0]: result}
        out = {}
        for name in unit.gives:
            value = columns[name]
            array = (
                value.cast(SIGNALS[name]) if isinstance(value, (pa.Array, pa.ChunkedArray)) else pa.array(value, SIGNALS[name])
            )
            assert len(array) == rows.num_rows, (unit.id, name, len(array), rows.num_rows)
            out[name] = array
        return out
    return _complete(result, unit, severity)


def _complete(table: pa.Table, unit: Unit, severity: str | None) -> pa.Table:
    n = table.num_rows
    own = table["severity"].cast(pa.string())
    filled = pa.array([severity] * n, pa.string()) if severity else pc.fill_null(own, unit.severity)
    columns = {name: table[name] for name in FLAGS.names}
    columns["check"] = pa.array([unit.id] * n, pa.string()).dictionary_encode()
    columns["severity"] = (
        filled.combine_chunks().dictionary_encode() if isinstance(filled, pa.ChunkedArray) else filled.dictionary_encode()
    )
    return pa.table(columns).cast(FLAGS)


def run_table(
    rows: pa.Table,
    spec: Spec,
    *,
    checks: Sequence[str] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    scopes: Sequence[str] = ("row", "dataset"),
) -> tuple[pa.Table, pa.Table]:
    """Run checks on a table in this process, uncached; return (FLAGS ordered by row, SIGNALS)."""
    resources: dict[str, Any] = {}
    chosen = switched_on(spec, checks, overrides or {})
    flags = [FLAGS.empty_table()]
    signals = rows.select(["row", "uid"])
    for unit in plan(choose(spec, checks)):
        if not unit.gives and unit.scope not in scopes:
            continue
        options = resolve(unit, spec, chosen)
        resources.update({need: _resource(need, options, spec, None) for need in unit.needs if need in RESOURCES})
        result = run_unit(unit, options, rows, resources, severity_of(unit, spec))
        if unit.gives:
            resources.update(result)
            for name, array in result.items():
                signals = signals.append_column(name, array)
        else:
            flags.append(result)
    table = pa.concat_tables(flags).unify_dictionaries()
    return (table.sort_by([("row", "ascending")]) if table.num_rows else table), signals


# ---- on a dataset folder: cached and parallel


def check(
    store: Store,
    spec: Spec,
    *,
    checks: Sequence[str] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Checked:
    """Run checks on the newest rows of a folder and leave flags and signals in it.

    What was computed before from the same rows, options and spec is taken from the folder. An interrupt leaves
    every finished check in place and the last complete result current.
    """
    began = time.monotonic()
    rows, rows_hash = store.rows(), store.rows_hash()
    units = plan(choose(spec, checks))
    chosen = switched_on(spec, checks, overrides or {})
    options = {u.id: resolve(u, spec, chosen) for u in units}
    keys: dict[str, str] = {}
    cached: list[str] = []
    ran: list[str] = []
    for unit in units:
        keys[unit.id] = cache_key(unit, options[unit.id], rows_hash, spec, keys, store.path)
    todo = [u for u in units if not _path(store, u, keys[u.id]).exists()]
    cached = [u.id for u in units if u not in todo]
    with _Workers(store, spec, rows.num_rows, todo, workers) as pool:
        for unit in units:
            if unit in todo:
                result = pool.run(unit, options[unit.id], rows, keys, progress)
                write_arrow(_path(store, unit, keys[unit.id]), result)
                ran.append(unit.id)
    tables = {u.id: read_arrow(_path(store, u, keys[u.id])) for u in units if not u.gives}
    flagged = np.unique(np.concatenate([np.zeros(0, np.int64), *(t["row"].to_numpy() for t in tables.values())]))
    store.write_current(
        {
            "rows_version": store.version,
            "rows_hash": rows_hash,
            "spec_hash": spec.hash,
            "flags": {u.id: keys[u.id] for u in units if not u.gives},
            "signals": {u.id: keys[u.id] for u in units if u.gives},
            "options": {id: o.model_dump(mode="json") for id, o in options.items()},
        }
    )
    return Checked(
        rows.num_rows,
        {id: t.num_rows for id, t in tables.items()},
        len(flagged),
        time.monotonic() - began,
        tuple(cached),
        tuple(ran),
        {id: o.model_dump(mode="json") for id, o in options.items()},
    )


def cache_key(
    unit: Unit, options: BaseModel, rows_hash: str, spec: Spec, keys: Mapping[str, str], folder: Path | None = None
) -> str:
    """Return <id>@<version>-<16 hex digits>: the hash covers rows, options, source and everything asked for."""
    makers = {column: u.id for u in SIGNAL_UNITS.values() for column in u.gives}
    parts: dict[str, Any] = {
        "rows": rows_hash,
        "options": options.model_dump(mode="json"),
        "severity": severity_of(unit, spec),
        "code": _code(unit),
    }
    for need in unit.needs:
        if need == "spec":
            parts[need] = _content_hash(spec)
        elif need in RESOURCES:
            parts[need] = _resource_hash(need, options, spec, folder)
        else:
            parts[need] = keys.get(makers.get(need, ""), need)
    text = json.dumps(parts, sort_keys=True)
    return f"{unit.id}@{unit.version}-{xxhash.xxh3_64_hexdigest(text.encode())}"


def _code(unit: Unit) -> str:
    """Return the hash of the file a unit is written in, so that a mended check is run again in a checkout."""
    path = inspect.getsourcefile(inspect.unwrap(unit.run))
    return xxhash.xxh3_64_hexdigest(Path(path).read_bytes()) if path else ""


def _content_hash(spec: Spec) -> str:
    """Return the hash of what checks read of a spec: not the gate, the split, the battery or other checks' options."""
    text = spec.model_dump_json(include={"families", "standards", "refusals", "edge_cases", "language"})
    return xxhash.xxh3_64_hexdigest(text.encode())


def _path(store: Store, unit: Unit, key: str) -> Path:
    return store.path / ("signals" if unit.gives else "flags") / f"{key}.arrow"


class _Workers:
    """Runs units on a folder's rows: row units in slices over processes, dataset units here."""

    def __init__(self, store: Store, spec: Spec, n: int, todo: Sequence[Unit], workers: int | None) -> None:
        self.store, self.spec, self.n = store, spec, n
        self.count = workers if workers is not None else min(os.cpu_count() or 1, 8)
        wanted = self.count > 1 and n > IN_PROCESS and any(u.scope == "row" for u in todo)
        self.pool = (
            ProcessPoolExecutor(
                self.count,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_open,
                initargs=(str(store.rows_path()), spec.model_dump_json()),
            )
            if wanted
            else None
        )
        if self.pool is not None:
            # A worker that is interrupted while it starts would print a traceback; so start all with interrupts held.
            held = signals.pthread_sigmask(signals.SIG_BLOCK, {signals.SIGINT})
            try:
                for task in [self.pool.submit(os.getpid) for _ in range(self.count)]:
                    task.result()
            finally:
                signals.pthread_sigmask(signals.SIG_SETMASK, held)

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=kind is None, cancel_futures=True)
            if kind is not None:
                for process in list((self.pool._processes or {}).values()):
                    process.terminate()

    def run(self, unit: Unit, options: BaseModel, rows: pa.Table, keys: Mapping[str, str], progress: Progress | None) -> pa.Table:
        """Return the FLAGS or SIGNALS table of one unit over all rows."""
        say = progress or (lambda name, done, total: None)
        say(unit.id, 0, self.n)
        if unit.scope == "dataset" or self.pool is None:
            resources = {
                need: _resource(need, options, self.spec, self.store.path) if need in RESOURCES else self._signal(need, keys)
                for need in unit.needs
            }
            parts = [_table(unit, run_unit(unit, options, rows, resources, severity_of(unit, self.spec)), rows)]
            say(unit.id, self.n, self.n)
        else:
            parts = self._spread(unit, options, keys, say)
        table = pa.concat_tables(parts).unify_dictionaries()
        return table.combine_chunks() if unit.gives else table

    def _spread(self, unit: Unit, options: BaseModel, keys: Mapping[str, str], say: Progress) -> list[pa.Table]:
        assert self.pool is not None
        makers = {column: u for u in SIGNAL_UNITS.values() for column in u.gives}
        signals = {
            need: str(_path(self.store, makers[need], keys[makers[need].id])) for need in unit.needs if need not in RESOURCES
        }
        tasks = [
            self.pool.submit(
                _slice,
                unit.id,
                bool(unit.gives),
                options.model_dump(mode="json"),
                start,
                min(start + BATCH, self.n),
                signals,
                severity_of(unit, self.spec),
            )
            for start in range(0, self.n, BATCH)
        ]
        parts = []
        for i, task in enumerate(tasks):
            parts.append(pa.ipc.open_stream(task.result()).read_all())
            say(unit.id, min((i + 1) * BATCH, self.n), self.n)
        return parts

    def _signal(self, name: str, keys: Mapping[str, str]) -> pa.ChunkedArray:
        maker = next(u for u in SIGNAL_UNITS.values() if name in u.gives)
        return read_arrow(_path(self.store, maker, keys[maker.id]))[name]


def _table(unit: Unit, result: Any, rows: pa.Table) -> pa.Table:
    """Return a signal's columns led by row and uid; a FLAGS table as it is."""
    if not unit.gives:
        return result
    table = rows.select(["row", "uid"])
    for name, array in result.items():
        table = table.append_column(name, array)
    return table


_rows: pa.Table | None = None
_spec: Spec | None = None


def _open(path: str, spec: str) -> None:
    """Set up a worker: map the rows, read the spec, leave interrupts to the parent."""
    global _rows, _spec
    signals.signal(signals.SIGINT, signals.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pa.set_cpu_count(1)
    _rows = read_arrow(Path(path))
    _spec = Spec.model_validate_json(spec)


def _end_with_parent() -> None:
    """End this worker when its parent has gone, however it went: a killed parent cannot tell its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _slice(
    id: str, is_signal: bool, options: dict[str, Any], start: int, stop: int, signals: dict[str, str], severity: str | None
) -> bytes:
    """Run one unit on rows start..stop in a worker and return its table as Arrow stream bytes."""
    assert _rows is not None and _spec is not None
    unit = (SIGNAL_UNITS if is_signal else CHECKS)[id]
    rows = _rows.slice(start, stop - start)
    resources: dict[str, Any] = {"spec": _spec}
    for name, path in signals.items():
        resources[name] = read_arrow(Path(path))[name].slice(start, stop - start)
    try:
        result = run_unit(unit, unit.options(**options), rows, resources, severity)
    except Exception as e:
        raise RuntimeError(f"{id} failed on rows {start}..{stop - 1}: {type(e).__name__}: {e}") from e
    table = _table(unit, result, rows).unify_dictionaries().combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
