"""Runs checks over rows: cached by what they read, row checks over processes, one file a finished check."""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pydantic import BaseModel

from .checks import CHECKS, SIGNAL_UNITS
from .checks.base import RESOURCES, Unit, same_code
from .contents import ONE_PIECE, hashes, joined, places, same_rows, some, taken
from .errors import CurationError
from .model import FLAGS, SIGNALS
from .past import NoPast, Past
from .references import reference_file, references_of
from .remembered import remembering
from .spec import CheckSettings, Spec, load, options_of
from .store import Store, read_arrow, read_sparing, write_arrow
from .text import nearest
from .vectors import Vectors, at_hand
from .workers import Team, interrupts, served

log = logging.getLogger(__name__)

#: (name of the check or signal, rows done, rows in all)
Progress = Callable[[str, int, int], None]
BATCH = 4096  # rows a task: small enough for a moving progress bar, large enough to hide the hand-over
SMALL = 512  # ... where there are few rows: all workers shall have some
IN_PROCESS = 6000  # up to this many rows, starting workers costs more than it saves (about a second each)
ALONE = 25_000  # rows a worker from which on the main process leaves slices to the workers, and is not one of them
AHEAD = 8  # row units whose slices the workers are given at a time, while set-wide units run in the main process


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
    severities: dict[str, dict[str, int]] = field(default_factory=dict)  # flags by check and severity, the gravest first


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


def plan(units: Sequence[Unit], *, every: bool = True) -> list[Unit]:
    """Return the signals (`every` one, or those that `units` ask for), each after those it asks for itself, then the units."""
    makers = {column: u for u in SIGNAL_UNITS.values() for column in u.gives}
    order: list[Unit] = []

    def add(unit: Unit) -> None:
        for need in unit.needs:
            if need not in RESOURCES:
                assert need in makers, f"{unit.id} asks for signal {need!r}, which no unit gives"
                add(makers[need])
        if unit not in order:
            order.append(unit)

    for unit in [*(SIGNAL_UNITS.values() if every else ()), *units]:
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
    """Return what a resource adds to the key of a result: the spec as checks read it, the references' file, the model at hand."""
    if need == "spec":
        return _content_hash(spec)
    if need == "vectors":
        return f"vectors of {at_hand()}"
    if need != "references":
        return need
    path, battery = reference_file(getattr(options, "reference", ""), spec, folder)
    if path is None:
        return "none"
    mark = xxhash.xxh3_64(b"battery" if battery else path.name.encode())
    for part in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        mark.update(part.read_bytes())
    return mark.hexdigest()


def _resource(need: str, options: BaseModel, spec: Spec, folder: Path | None, n: int = 0) -> Any:
    """Return what a check asks for by the name of a resource; `n`: rows, for a past in which there is nothing."""
    if need == "past":
        return NoPast(n)
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
    alone = unit.scope == "dataset" or not (pc.max(pc.list_value_length(result["related"])).as_py() or 0)
    assert alone, f"{unit.id} judges each row by itself and yet names other rows"
    return _complete(result, unit, severity)


def _complete(table: pa.Table, unit: Unit, severity: str | None) -> pa.Table:
    """Return the flags with the check's name, and with a severity where they have none of their own."""
    columns = {name: table[name] for name in FLAGS.names}
    columns["check"] = same_code(unit.id, table.num_rows)
    own = table["severity"]
    if severity or own.null_count == table.num_rows:
        columns["severity"] = same_code(severity or unit.severity, table.num_rows)
    elif own.null_count:
        columns["severity"] = pc.fill_null(own.cast(pa.string()), unit.severity).combine_chunks().dictionary_encode()
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
    units = [u for u in plan(choose(spec, checks)) if u.gives or u.scope in scopes]
    of = {u.id: resolve(u, spec, chosen) for u in units}  # a value out of range is refused before anything runs
    for unit in units:
        options = of[unit.id]
        resources.update({need: _resource(need, options, spec, None, rows.num_rows) for need in unit.needs if need in RESOURCES})
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

    What was computed before from the same rows, options and spec is taken from the folder. Of rows that came, went,
    changed or moved since, row checks and signals look only at those whose content is new to them; the result is that
    of a full run. An interrupt leaves every finished check in place and the last complete result current.
    """
    began = time.monotonic()
    units = plan(choose(spec, checks))
    chosen = switched_on(spec, checks, overrides or {})
    options = {u.id: resolve(u, spec, chosen) for u in units}
    with store.checking():
        rows, rows_hash = store.rows(), store.rows_hash()
        keys, cached, ran = _run(store, rows, spec, units, options, progress, workers)
        tables = {u.id: read_arrow(_path(store, u, keys[u.id])) for u in units if not u.gives}
        flagged = np.zeros(rows.num_rows, np.bool_)
        for table in tables.values():
            flagged[table["row"].to_numpy()] = True
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
        int(flagged.sum()),
        time.monotonic() - began,
        tuple(cached),
        tuple(ran),
        {id: o.model_dump(mode="json") for id, o in options.items()},
        {id: _by_severity(t) for id, t in tables.items()},
    )


def _by_severity(flags: pa.Table) -> dict[str, int]:
    """Return how many of the flags are of each severity that there is, the gravest first."""
    counts = {c["values"]: c["counts"] for c in pc.value_counts(flags["severity"]).to_pylist()}
    return {s: counts[s] for s in ("error", "warning", "info") if s in counts}


def _run(
    store: Store,
    rows: pa.Table,
    spec: Spec,
    units: Sequence[Unit],
    options: Mapping[str, BaseModel],
    progress: Progress | None,
    workers: int | None,
) -> tuple[dict[str, str], list[str], list[str]]:
    """Run what has no result yet; return (key of each unit, ids taken from the folder, ids that ran). `rows`: the newest."""
    rows_hash = store.rows_hash()
    keys: dict[str, str] = {}
    for unit in units:
        keys[unit.id] = cache_key(unit, options[unit.id], rows_hash, spec, keys, store.path)
    todo = [u for u in units if not _path(store, u, keys[u.id]).exists()]
    left = {u.id: u for u in todo}
    waits = {u.id: set(_makers_for(u).values()) for u in todo}
    with interrupts() as interrupted, _Workers(store, rows, spec, workers) as pool, _Writer() as writer, remembering():
        while left:
            ready = [u for id, u in left.items() if not waits[id] & left.keys()]
            pool.begin([u for u in ready if u.scope == "row"], options, keys)
            unit = pool.next(ready, options, rows, keys)
            writer.wait(waits[unit.id])
            result = pool.run(unit, options[unit.id], rows, keys, progress)
            result = result.replace_schema_metadata(_about(store, rows_hash, unit, keys))
            writer.write(unit.id, _path(store, unit, keys[unit.id]), result)
            del left[unit.id]
            if pool.pool is not None and not pool.helps:  # else it may keep gigabytes while the workers need memory
                pa.default_memory_pool().release_unused()
            if interrupted:  # and still here: it fell into numba, which was loading compiled code
                raise KeyboardInterrupt
    return keys, [u.id for u in units if u not in todo], [u.id for u in todo]


class _Writer:
    """Writes results while the next unit runs: a disk takes longer to say that a file is safe than a small unit to run."""

    WAITING = 1 << 28  # bytes of results at most that wait to be written, and one more result

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.waiting: dict[str, Future[None]] = {}
        self.bytes: dict[str, int] = {}

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        self.thread.shutdown()  # after an interrupt too: what is finished is kept
        if kind is None:
            self.wait(set(self.waiting))

    def write(self, id: str, path: Path, table: pa.Table) -> None:
        """Write the result of a unit before long."""
        while sum(self.bytes[other] for other in self.waiting) >= self.WAITING:
            self.wait({next(iter(self.waiting))})
        self.bytes[id] = table.nbytes
        self.waiting[id] = self.thread.submit(write_arrow, path, table)

    def wait(self, ids: Collection[str]) -> None:
        """Return when the results of these units are written. What went wrong with one is raised here."""
        for id in [id for id in self.waiting if id in ids]:
            self.waiting.pop(id).result()


def found(
    store: Store,
    spec: Spec,
    check: str,
    *,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> pa.Table:
    """Return the FLAGS of one check on the newest rows under other options; the current result stays what it is."""
    unit = choose(spec, [check])[0]
    chosen = switched_on(spec, [check], {check: dict(overrides or {})})
    units = plan([unit], every=False)
    options = {u.id: resolve(u, spec, chosen) for u in units}
    with store.checking():
        keys, _, _ = _run(store, store.rows(), spec, units, options, progress, workers)
        return read_arrow(_path(store, unit, keys[unit.id])).cast(FLAGS)


def cache_key(
    unit: Unit, options: BaseModel, rows_hash: str, spec: Spec, keys: Mapping[str, str], folder: Path | None = None
) -> str:
    """Return <id>@<version>-<recipe>-<16 hex digits>: the hash covers recipe, rows and the signals asked for.

    The recipe, 16 hex digits, covers what is read besides: options, severity, resources and the source of the unit.
    """
    recipe = _recipe(unit, options, spec, folder)
    asked = {signal: keys.get(id, signal) for signal, id in _makers_for(unit).items()}
    text = json.dumps({"rows": rows_hash, "recipe": recipe, **asked}, sort_keys=True)
    return f"{recipe}-{xxhash.xxh3_64_hexdigest(text.encode())}"


def _recipe(unit: Unit, options: BaseModel, spec: Spec, folder: Path | None) -> str:
    """Return <id>@<version>-<16 hex digits> over all that decides a result but the rows and their signals."""
    parts: dict[str, Any] = {
        "options": options.model_dump(mode="json"),
        "severity": severity_of(unit, spec),
        "code": _code(unit),
        **{need: _resource_hash(need, options, spec, folder) for need in unit.needs if need in RESOURCES},
    }
    text = json.dumps(parts, sort_keys=True)
    return f"{unit.id}@{unit.version}-{xxhash.xxh3_64_hexdigest(text.encode())}"


def _makers() -> dict[str, Unit]:
    """Return the unit that gives each signal."""
    return {column: u for u in SIGNAL_UNITS.values() for column in u.gives}


def _makers_for(unit: Unit) -> dict[str, str]:
    """Return {signal: id of the unit that gives it} of the signals that a unit asks for."""
    asked = [need for need in unit.needs if need not in RESOURCES]
    makers = _makers() if asked else {}
    return {need: makers[need].id for need in asked}


_IMPORT = re.compile(rb"^[ \t]*from (\.+)(\w*) import (?=(\([^)]*\)|[^\n]*))", re.MULTILINE)


def _code(unit: Unit) -> str:
    """Return the hash of what a unit is written in: its file, the modules it imports, and what heads have learned."""
    path = inspect.getsourcefile(inspect.unwrap(unit.run))
    return _sources_hash(Path(path)) if path else ""


@cache
def _sources_hash(path: Path) -> str:
    mark = xxhash.xxh3_64()
    for part in (*sorted(_sources(path)), *sorted((Path(__file__).parent / "coefficients").glob("*.npz"))):
        mark.update(part.read_bytes())
    return mark.hexdigest()


def _sources(path: Path) -> set[Path]:
    """Return a file and the files of this package that it imports, at its top or in a function, and so on."""
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting += _imports(file)
    return seen


@cache
def _imports(path: Path) -> list[Path]:
    """Return the files that a file imports from this package: `from .a import b`, `from .. import a, b`."""
    out = []
    for dots, module, names in _IMPORT.findall(path.read_bytes()):
        home = path.parents[len(dots) - 1]
        for name in [module] if module else re.findall(rb"\w+", names):
            file = home / f"{name.decode()}.py"
            if file.exists():
                out.append(file)
    return out


def _content_hash(spec: Spec) -> str:
    """Return the hash of what checks read of a spec: not the gate, the split, the battery or other checks' options."""
    text = spec.model_dump_json(include={"families", "standards", "refusals", "edge_cases", "language"})
    return xxhash.xxh3_64_hexdigest(text.encode())


def _path(store: Store, unit: Unit, key: str) -> Path:
    return store.path / ("signals" if unit.gives else "flags") / f"{key}.arrow"


# ---- what the folder knows of rows it had before


def _about(store: Store, rows_hash: str, unit: Unit, keys: Mapping[str, str]) -> dict[bytes, bytes]:
    """Return what a result file says of the rows and signals it was computed from."""
    about = {"rows": store.version, "rows_hash": rows_hash, "signals": _asked_keys(unit, keys)}
    return {b"curation": json.dumps(about, sort_keys=True).encode()}


def _asked_keys(unit: Unit, keys: Mapping[str, str]) -> dict[str, str]:
    """Return {signal: key of its file} of the signals that a unit asks for."""
    return {signal: keys[id] for signal, id in _makers_for(unit).items()}


@dataclass(frozen=True)
class _Standing:
    """Where the present rows stood among earlier ones; units that read the same share it."""

    earlier: np.ndarray  # (n,) int64: position of each present row among the earlier ones, -1 for a new one

    @cached_property
    def fresh(self) -> np.ndarray:
        """The positions of the new rows, ascending."""
        return np.flatnonzero(self.earlier < 0)


@dataclass(frozen=True)
class _Known:
    """An earlier result of a unit, and what of it holds for the present rows."""

    table: pa.Table
    standing: _Standing  # among the rows of `table`; the unit has to run on the new ones
    behind: bool  # rows were only added behind those of `table`: number and uid of each are as they were

    @property
    def earlier(self) -> np.ndarray:
        return self.standing.earlier

    @property
    def fresh(self) -> np.ndarray:
        return self.standing.fresh

    def flags_with(self, new: pa.Table, rows: pa.Table) -> pa.Table:
        """Return the flags of all rows, in no order; `new`: those of the fresh rows."""
        old = self.table
        number = old["row"].to_numpy()
        if self.behind:
            stands = self.earlier[number] >= 0
            old = old if stands.all() else old.filter(pa.array(stands))
        else:
            place = places(self.earlier, 1 + max(int(a.max(initial=-1)) for a in (number, self.earlier)))[number]
            kept = np.flatnonzero(place >= 0)
            old = old.take(pa.array(kept)).set_column(0, FLAGS.field("row"), pa.array(place[kept]))
            old = old.set_column(1, FLAGS.field("uid"), taken(rows["uid"], place[kept]))
        return pa.concat_tables([old.cast(FLAGS), new.cast(FLAGS)])

    def signals_with(self, new: pa.Table) -> pa.Table:
        """Return the signals of all rows, in their order; `new`: those of the fresh rows."""
        n = self.table.num_rows
        at = self.earlier.copy()
        at[self.fresh] = n + np.arange(new.num_rows)
        behind = len(at) == n + new.num_rows and bool((at == np.arange(len(at))).all())
        both = {f.name: pa.chunked_array([*self.table[f.name].chunks, *new[f.name].chunks], f.type) for f in new.schema}
        return pa.table({name: column if behind else column.take(pa.array(at)) for name, column in both.items()})


class _Earlier:
    """Finds the newest earlier result of a unit and which present rows it speaks of."""

    def __init__(self, store: Store, rows: pa.Table, rows_hash: str) -> None:
        self.store, self.rows_hash = store, rows_hash
        self.tables: dict[str, pa.Table] = {rows_hash: rows}
        self.hashes: dict[tuple[str, str], np.ndarray] = {}
        self.known: dict[tuple[tuple[tuple[str, str], ...], ...], _Standing] = {}
        self.results: dict[str, _Known | None] = {}
        self.behind: dict[str, _Standing] = {}
        self.moved: dict[tuple[str, str, str], np.ndarray] = {}
        self.grown_from: list[str] | None = None

    def result(self, unit: Unit, keys: Mapping[str, str]) -> _Known | None:
        """Return the newest earlier result of a unit; None when none is usable."""
        if keys[unit.id] not in self.results:
            self.results[keys[unit.id]] = self._newest(unit, keys)
        return self.results[keys[unit.id]]

    def _newest(self, unit: Unit, keys: Mapping[str, str]) -> _Known | None:
        recipe = keys[unit.id].rpartition("-")[0]
        found = _path(self.store, unit, recipe).parent.glob(f"{recipe}-*.arrow")
        for path in sorted(found, key=lambda p: p.stat().st_mtime_ns, reverse=True):
            try:
                table = read_arrow(path)
            except CurationError as e:
                log.warning("%s", e)
                continue
            about = json.loads((table.schema.metadata or {}).get(b"curation", b"{}"))
            standing = self.standing(unit, keys, about)
            if standing is not None:
                return _Known(table, standing, self._added_to(about["rows"]))
        return None

    def positions(self, unit: Unit, keys: Mapping[str, str], about: Mapping[str, Any]) -> np.ndarray | None:
        """Return for each present row its position in the rows that `about` tells, -1 when new; None when those are gone."""
        standing = self.standing(unit, keys, about)
        return None if standing is None else standing.earlier

    def standing(self, unit: Unit, keys: Mapping[str, str], about: Mapping[str, Any]) -> _Standing | None:
        """Return where the present rows stood among those that `about` tells; None when those are gone."""
        if not about or not self._rows(about["rows"], about["rows_hash"]):
            return None
        asked = _asked_keys(unit, keys)
        if any(not self.signal_path(name, key).exists() for name, key in about["signals"].items()):
            return None
        new, old = self._columns(unit, self.rows_hash, asked), self._columns(unit, about["rows_hash"], about["signals"])
        if (new, old) not in self.known:  # units that read the same columns share the answer
            if self._added_to(about["rows"]):
                found = self._behind(sorted(asked), asked, about)
            else:
                found = _Standing(same_rows(self._content(new, self.rows_hash), self._content(old, about["rows_hash"])))
            self.known[new, old] = found
        return self.known[new, old]

    def _added_to(self, version: str) -> bool:
        """Whether the present rows are those of another version with rows added behind, by what the imports wrote."""
        if self.grown_from is None:
            at: str | None = self.store.version
            there = self.store.versions()
            self.grown_from = []
            while (at := self.store.about(at).get("appended_to")) is not None and at in there:
                self.grown_from.append(at)
        return version in self.grown_from

    def _behind(self, names: Sequence[str], asked: Mapping[str, str], about: Mapping[str, Any]) -> _Standing:
        """Return `standing` where rows were only added behind: a row is earlier when its signals are as they were."""
        n, before = (self.tables[x].num_rows for x in (self.rows_hash, about["rows_hash"]))
        if about["rows_hash"] not in self.behind:
            earlier = np.arange(n)
            earlier[before:] = -1
            self.behind[about["rows_hash"]] = _Standing(earlier)
        moved = [self._moved(name, asked[name], about["signals"][name], before) for name in names]
        if not any(map(len, moved)):
            return self.behind[about["rows_hash"]]
        earlier = self.behind[about["rows_hash"]].earlier.copy()
        earlier[np.concatenate(moved)] = -1
        return _Standing(earlier)

    def _moved(self, name: str, key: str, then: str, before: int) -> np.ndarray:
        """Return the first `before` rows, ascending, of which a signal says other than it did under another key."""
        if (name, key, then) not in self.moved:
            now, old = (read_arrow(self.signal_path(name, k))[name] for k in (key, then))
            found = np.zeros(0, np.int64)
            if not now.slice(0, before).equals(old):
                found = np.flatnonzero(self._hashes(key, name, "")[:before] != self._hashes(then, name, ""))
            self.moved[name, key, then] = found
        return self.moved[name, key, then]

    def _rows(self, version: str, rows_hash: str) -> bool:
        """Whether the folder still has these rows; a version number may have been given away again."""
        if rows_hash not in self.tables:
            if version not in self.store.versions() or self.store.rows_hash(version) != rows_hash:
                return False
            self.tables[rows_hash] = self.store.rows(version)
        return True

    @staticmethod
    def _columns(unit: Unit, rows_hash: str, asked: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Return (table, column) of all that the unit is handed: tables are named by the rows' hash or the signal's key."""
        return (*((rows_hash, name) for name in sorted(unit.reads)), *((asked[name], name) for name in sorted(asked)))

    def _content(self, columns: Sequence[tuple[str, str]], rows_hash: str) -> np.ndarray:
        """Return (n,) uint64: a hash a row over these columns."""
        return joined([self._hashes(*x, rows_hash) for x in columns], self.tables[rows_hash].num_rows)

    def _hashes(self, source: str, name: str, rows_hash: str) -> np.ndarray:
        """Return (n,) uint64: a hash a row of a column of the rows, or of a signal where `source` is its key."""
        if (source, name) not in self.hashes:
            table = self.tables[source] if source == rows_hash else read_arrow(self.signal_path(name, source))
            self.hashes[source, name] = hashes(table[name])
        return self.hashes[source, name]

    def signal_path(self, name: str, key: str) -> Path:
        return _path(self.store, _makers()[name], key)


class _Workers:
    """Runs units on a folder's rows: row units in slices over processes once they are many, dataset units here."""

    def __init__(self, store: Store, rows: pa.Table, spec: Spec, workers: int | None) -> None:
        self.store, self.spec, self.n = store, spec, rows.num_rows
        self.count = workers if workers is not None else min(os.cpu_count() or 1, 8)
        self.pool: Team | None = None
        self.helps = False  # whether slices are done in this process too
        self.begun: dict[str, list[tuple[np.ndarray, Future[bytes] | pa.Table]]] = {}  # slices, and what is found on them
        self.version = store.version
        self.earlier = _Earlier(store, rows, store.rows_hash())

    def start(self, n: int) -> Team:
        """Return the workers, on their way: one less for few rows `n`, of which this process does slices too."""
        if self.pool is None:
            self.helps = n < ALONE * self.count
            given = (str(self.store.path), self.version, self.spec.model_dump_json(), _modules())
            self.pool = Team(max(1, self.count - self.helps), _open, given)
        return self.pool

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if self.pool is not None:
            self.pool.end() if kind is None else self.pool.leave()

    def run(self, unit: Unit, options: BaseModel, rows: pa.Table, keys: Mapping[str, str], progress: Progress | None) -> pa.Table:
        """Return the FLAGS or SIGNALS table of one unit over all rows, flags in the order of the rows."""
        say = progress or (lambda name, done, total: None)
        known = self.earlier.result(unit, keys) if unit.scope == "row" else None
        if known is None:
            table = self._all(unit, options, rows, keys, None, say)
        else:
            new = self._all(unit, options, rows, keys, known.fresh, say)
            table = known.signals_with(new) if unit.gives else known.flags_with(new, rows)
        table = table.unify_dictionaries()
        if unit.gives:
            return table.combine_chunks()
        row = table["row"].to_numpy()
        table = table if (row[1:] >= row[:-1]).all() else table.take(pa.array(np.argsort(row, kind="stable")))
        return table.combine_chunks() if table.nbytes < ONE_PIECE else table    # else each read goes through hundreds of slices

    def _all(
        self, unit: Unit, options: BaseModel, rows: pa.Table, keys: Mapping[str, str], at: np.ndarray | None, say: Progress
    ) -> pa.Table:
        """Return what a unit finds on all rows, or on those at the positions `at` (ascending)."""
        n = self.n if at is None else len(at)
        say(unit.id, 0, n)
        if unit.id in self.begun or self._many(unit, n):
            return pa.concat_tables(self._spread(unit, options, rows, keys, at, n, say))
        return self._here(unit, options, rows, keys, at, say)

    def _many(self, unit: Unit, n: int) -> bool:
        """Whether a unit is for the workers; they know nothing of what was declared in the program itself."""
        least = IN_PROCESS if self.pool is None and not served() else min(IN_PROCESS, SMALL)
        return unit.scope == "row" and self.count > 1 and n > least and unit.run.__module__ != "__main__"

    def _here(
        self, unit: Unit, options: BaseModel, rows: pa.Table, keys: Mapping[str, str], at: np.ndarray | None, say: Progress
    ) -> pa.Table:
        """Return what a unit finds in this process on all rows, or on those at the positions `at` (ascending)."""
        n = self.n if at is None else len(at)
        resources = {need: self._asked(unit, need, options, keys) for need in unit.needs}
        if "vectors" in resources:
            resources["vectors"].progress = lambda done, total: say(f"{unit.id}: embed", done, total)
        if at is not None:
            rows = some(rows, at)
            resources.update({need: some(resources[need], at) for need in unit.needs if need not in RESOURCES})
        found = _table(unit, run_unit(unit, options, rows, resources, severity_of(unit, self.spec)))
        say(unit.id, n, n)
        return found

    def _asked(self, unit: Unit, need: str, options: BaseModel, keys: Mapping[str, str]) -> Any:
        """Return a resource or a signal that a unit asks for."""
        if need == "past":
            recipe = keys[unit.id].rpartition("-")[0]
            about = {"rows": self.store.version, "rows_hash": self.earlier.rows_hash, "signals": _asked_keys(unit, keys)}
            return Past(self.store.path / "past", recipe, about, lambda a: self.earlier.positions(unit, keys, a), self.n)
        return _resource(need, options, self.spec, self.store.path) if need in RESOURCES else self._signal(need, keys)

    def begin(self, units: Sequence[Unit], options: Mapping[str, BaseModel], keys: Mapping[str, str]) -> None:
        """Hand slices of row units with many rows to the workers, AHEAD units at a time; `run` collects what they find."""
        for unit in [u for u in units if u.id not in self.begun]:
            if len(self.begun) == AHEAD:
                return
            if all(self.earlier.signal_path(name, key).exists() for name, key in _asked_keys(unit, keys).items()):
                known = self.earlier.result(unit, keys)
                at = np.arange(self.n) if known is None else known.fresh
                if self._many(unit, len(at)):
                    self.begun[unit.id] = self._submitted(unit, options[unit.id], keys, at)

    def next(
        self, ready: Sequence[Unit], options: Mapping[str, BaseModel], rows: pa.Table, keys: Mapping[str, str]
    ) -> Unit:
        """Return the unit to run now: one that the workers have finished, else one that looks at all rows while they work.

        So the workers wait for nobody as long as there are row units, and what they have finished is soon written. Where
        this process is one of them, it does slices until there is such a unit.
        """
        begun = [u for u in ready if u.id in self.begun]
        wide = [u for u in ready if u.scope == "dataset"]
        while begun:
            finished = [u for u in begun if all(isinstance(task, pa.Table) or task.done() for _, task in self.begun[u.id])]
            if finished or wide:
                return (finished or wide)[0]
            if not self.helps or not any(self._help(u, options[u.id], rows, keys) for u in reversed(begun)):
                return begun[0]
        return ready[0]

    def _help(self, unit: Unit, options: BaseModel, rows: pa.Table, keys: Mapping[str, str]) -> bool:
        """Do the last slice of a unit that no worker has begun in this process; False when there is none."""
        tasks = self.begun[unit.id]
        for k in reversed(range(len(tasks))):
            part, task = tasks[k]
            if not isinstance(task, pa.Table) and task.cancel():
                tasks[k] = part, self._here(unit, options, rows, keys, part, lambda *_: None)
                return True
        return False

    def _submitted(
        self, unit: Unit, options: BaseModel, keys: Mapping[str, str], at: np.ndarray
    ) -> list[tuple[np.ndarray, Future[bytes] | pa.Table]]:
        """Return (positions, their task) of the slices of a unit, which the workers have from now on."""
        pool = self.start(len(at))
        signals = {name: str(_path(self.store, _makers()[name], key)) for name, key in _asked_keys(unit, keys).items()}
        step = max(min(SMALL, BATCH), min(BATCH, -(-len(at) // self.count)))
        given, severity = options.model_dump(mode="json"), severity_of(unit, self.spec)
        parts = [at[k : k + step] for k in range(0, len(at), step)]
        return [(p, pool.submit(_slice, unit.id, bool(unit.gives), given, p, signals, severity)) for p in parts]

    def _spread(
        self, unit: Unit, options: BaseModel, rows: pa.Table, keys: Mapping[str, str], at: np.ndarray | None, n: int,
        say: Progress,
    ) -> list[pa.Table]:
        """Return what is found on slices, in order. While workers start, or where few do, slices from behind are done here."""
        if unit.id not in self.begun:
            self.begun[unit.id] = self._submitted(unit, options, keys, np.arange(self.n) if at is None else at)
        assert self.pool is not None, "its slices are begun"
        while (self.helps or not self.pool.started) and self._help(unit, options, rows, keys):
            pass
        parts, done = [], 0
        for part, task in self.begun.pop(unit.id):
            parts.append(task if isinstance(task, pa.Table) else pa.ipc.open_stream(task.result()).read_all())
            done += len(part)
            say(unit.id, done, n)
        return parts

    def _signal(self, name: str, keys: Mapping[str, str]) -> pa.ChunkedArray:
        maker = _makers()[name]
        return read_arrow(_path(self.store, maker, keys[maker.id]))[name]


def _table(unit: Unit, result: Any) -> pa.Table:
    """Return a signal's columns, or a FLAGS table, as a table."""
    return pa.table(result) if unit.gives else result


_folder: Path | None = None
_rows: pa.Table | None = None
_spare: Callable[[], None] | None = None  # gives the pages of the rows back
_spec: Spec | None = None


def _modules() -> list[str]:
    """Return the modules of others that declare checks or signals."""
    every = {unit.run.__module__ for unit in (*CHECKS.values(), *SIGNAL_UNITS.values())}
    return sorted(name for name in every if name != "__main__" and name.partition(".")[0] != __name__.partition(".")[0])


def _open(folder: str, version: str, spec: str, modules: Sequence[str]) -> None:
    """Set up a worker: map the rows, read the spec, import what declares checks."""
    global _folder, _rows, _spare, _spec
    pa.set_cpu_count(1)
    _folder = Path(folder)
    store = Store(folder)
    _rows, _spare = read_sparing([store.rows_path(part) for part in store.parts(version)])
    _spec = Spec.model_validate_json(spec)
    for name in modules:
        import_module(name)


def _slice(
    id: str, is_signal: bool, options: dict[str, Any], at: np.ndarray, signals: dict[str, str], severity: str | None
) -> bytes:
    """Run one unit on the rows at ascending positions in a worker and return its table as Arrow stream bytes."""
    assert _rows is not None and _spec is not None and _spare is not None
    unit = (SIGNAL_UNITS if is_signal else CHECKS)[id]
    rows = some(_rows, at)
    given = unit.options(**options)
    resources = {need: _resource(need, given, _spec, _folder) for need in unit.needs if need in RESOURCES}
    for name, path in signals.items():
        resources[name] = some(read_arrow(Path(path))[name], at)
    try:
        result = run_unit(unit, given, rows, resources, severity)
    except Exception as e:
        raise RuntimeError(f"{id} failed on rows {at[0]}..{at[-1]}: {type(e).__name__}: {e}") from e
    table = _table(unit, result).unify_dictionaries().combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    _spare()
    return sink.getvalue().to_pybytes()
