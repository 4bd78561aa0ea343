"""The verbs `coverage`, `select` and `map`: what a set covers, which rows to keep, and where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .cli import _say, as_json, folder, progress, table
from .errors import CurationError
from .text import shorten

embedded = click.option("--vectors", is_flag=True, help="Embed the prompts too: novelty, nearness, redundancy (takes time).")
with_model = click.option(
    "--model", default="", help="full, static or the folder of a model (default: by an estimate of the time)."
)


@click.command()
@folder
@click.option("--against", metavar="FOLDER|VERSION", help="Compare with another folder, or with an earlier version of this one.")
@embedded
@with_model
@click.option("--all", "all_", is_flag=True, help="All imported rows, not only those that no verdict has rejected.")
@click.option("--limit", default=12, show_default=True, type=click.IntRange(1), help="Lines of each list (--json: all).")
@click.option("--csv", "csv", type=click.Path(path_type=Path), help="Write every count to this file: mix, name, rows, share.")
@as_json
def coverage(
    folder: Path, against: str | None, vectors: bool, model: str, all_: bool, limit: int, csv: Path | None, json_: bool
) -> None:
    """Say what a set covers, what it lacks against its spec, how it is mixed and what it says twice."""
    from . import coverage as cover
    from . import engine
    from .store import Store, atomic

    store = Store(folder)
    spec = engine.spec_of(store)
    with progress() as step:
        rows, signals = _rows_of(store, spec, all_=all_)
        space = _space(store, rows, model) if vectors else None
        found = cover.report(rows, signals, spec, space=space, progress=step)
        if csv is not None:
            with atomic(csv, "w") as f:
                found.frame().to_csv(f, index=False)
        if against is None:
            _say(json_, found.as_dict(), lambda: _coverage_text(found, limit))
            return
        old_store, version = _other(store, against)
        old_rows, old_signals = _rows_of(old_store, spec, version=version, all_=all_)
        old_space = _space(old_store, old_rows, model) if vectors else None
        before = cover.report(old_rows, old_signals, spec, space=old_space, progress=step)
        both = (old_space, space) if old_space is not None and space is not None else None
        if both is not None and both[0].shape[1] != both[1].shape[1]:
            raise CurationError("the two sets were embedded with different models", "--model full (or static) takes one for both")
        result = cover.compare(before, found, (old_rows["uid"].to_pylist(), rows["uid"].to_pylist()), both)
    _say(json_, result.as_dict(), lambda: _comparison_text(result, limit, against))


def _other(store: Any, against: str) -> tuple[Any, str | None]:
    """Return the folder and version that --against names."""
    from .store import Store

    if Path(against).is_dir():
        return Store(against), None
    version = f"{int(against):04d}" if against.isdigit() else against
    if version in store.versions():
        return store, version
    raise CurationError(
        f"--against {against}: neither a folder nor a version of {store.path}", f"versions: {', '.join(store.versions())}"
    )


def _rows_of(store: Any, spec: Any, *, version: str | None = None, all_: bool = False) -> tuple[Any, Any]:
    """Return rows and signals of a folder: those that no verdict has rejected, or all of a version.

    Signals that the folder does not hold (an earlier version, a folder not checked) are computed here.
    """
    import pyarrow as pa

    from . import engine, gate

    if version is not None and version != store.version:
        rows = store.rows(version)
        return rows, engine.run_table(rows, spec, checks=["response.empty"])[1]
    if store.signals() is None:
        rows = store.rows()
        return rows, engine.run_table(rows, spec, checks=["response.empty"])[1]
    state = gate.effective(store, spec)
    if all_:
        return state.rows, state.signals
    kept = pa.array(state.kept)
    return state.rows.take(kept), state.signals.take(kept)


def _space(store: Any, rows: Any, model: str) -> Any:
    from .selection import space_of

    return space_of(store, rows, model=model)


def _coverage_text(found: Any, limit: int) -> str:
    lines = [f"{found.rows:,} rows"]
    lines += [f"  note: {x}" for x in found.notes]
    targets = {x.id: x for x in found.lines if x.kind == "family"}
    shown = list(found.families.counts.items())
    lines.append(
        table(
            [(shorten(f, 40), n, f"{found.families.share(f):.1%}", _wanted(targets.get(f))) for f, n in shown[:limit]],
            ("family", "rows", "share", "wanted"),
        )
    )
    if len(shown) > limit:
        lines.append(f"... and {len(shown) - limit} more families (--limit)")
    gaps = found.gaps
    lines.append("\ngaps, the widest first:" if gaps else "\nno gap against the spec")
    lines += [f"  {x.gap:4.0%}  {x.message}" for x in gaps[:limit]]
    effective = ", ".join(f"{name.replace('_', '-')} {value:,.1f}" for name, value in found.effective.items())
    lines.append(f"\neffective number of tasks (exp of the entropy): {effective}")
    pairs = found.mixes["verb_noun"]
    lines.append(f"{len(pairs.counts):,} different verb-noun pairs; the commonest:")
    lines.append(
        table(
            [(shorten(p, 40), n, f"{pairs.share(p):.1%}") for p, n in list(pairs.counts.items())[:limit]],
            ("pair", "rows", "share"),
        )
    )
    for name in ("format", "turns", "language", "script", "prompt_words", "response_words"):
        if name in found.mixes:
            mix = found.mixes[name]
            parts = ", ".join(f"{shorten(k, 30)} {mix.share(k):.1%}" for k, n in list(mix.counts.items())[:limit] if n)
            lines.append(f"{name.replace('_', ' ')}: {parts}")
    if found.space is not None:
        s = found.space
        near = ", ".join(f"{k} {v:.2f}" for k, v in s.nearest.items())
        lines += [
            f"novelty {s.novelty:.3f}; cosine to the nearest other row: {near} ({s.rows:,} rows measured)",
            f"the last 30 % of the rows add {s.last(0.3):.1%} coverage, the last 50 % add {s.last(0.5):.1%}",
        ]
    else:
        lines.append("--vectors adds novelty and redundancy")
    return "\n".join(lines)


def _wanted(line: Any) -> str:
    if line is None or (line.least is None and line.most is None):
        return ""
    low = f"{line.least:,}" if line.least is not None else "0"
    text = f"{low} to {line.most:,}" if line.most is not None else f"at least {low}"
    return text + ("" if line.met else "  (missed)")


def _comparison_text(r: Any, limit: int, against: str) -> str:
    lines = [f"against {against}: {r.came:,} rows came, {r.gone:,} went, {r.stayed:,} stayed"]
    a, b = r.before, r.after
    names = sorted({*a.families.counts, *b.families.counts}, key=lambda f: -abs(b.families.share(f) - a.families.share(f)))
    lines.append(
        table(
            [
                (shorten(f, 40), a.families.counts.get(f, 0), b.families.counts.get(f, 0),
                 f"{100 * (b.families.share(f) - a.families.share(f)):+.1f}")
                for f in names[:limit]
            ],
            ("family", "before", "now", "points of share"),
        )
    )
    for name in b.effective:
        if name in a.effective:
            what = name.replace("_", "-")
            lines.append(f"effective number of {what}: {a.effective[name]:,.1f} before, {b.effective[name]:,.1f} now")
    lines.append(f"{len(r.new_pairs.counts):,} new verb-noun pairs in {sum(r.new_pairs.counts.values()):,} rows"
                 + (": " + ", ".join(shorten(p, 30) for p in list(r.new_pairs.counts)[:limit]) if r.new_pairs.counts else ""))
    if r.came_near:
        lines.append("rows that came, by cosine to the nearest row before: "
                     + ", ".join(f"{k} {v:.2f}" if k == "mean" else f"{k} {v:.1%}" for k, v in r.came_near.items()))
    lines += [f"met now: {x.message}" for x in r.filled] + [f"no longer met: {x.message}" for x in r.opened]
    return "\n".join(lines)


@click.command()
@folder
@click.option("--size", type=int, required=True, help="How many rows to keep.")
@click.option("--write-verdicts", is_flag=True, help="Reject the other rows as one action, so that export leaves them out.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the table of the choice: .csv, .jsonl or .parquet.")
@with_model
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random choices compared with.")
@click.option("--limit", default=10, show_default=True, type=click.IntRange(1), help="Chosen rows to print (--json: all).")
@as_json
def select(
    folder: Path, size: int, write_verdicts: bool, out: Path | None, model: str, seed: int, limit: int, json_: bool
) -> None:
    """Choose the rows to keep: by verdicts, flags and the spec's numbers, then those that stand for most others."""
    from . import engine, selection
    from .store import Store

    kinds = (".csv", ".jsonl", ".parquet")
    if out is not None and out.suffix not in kinds:
        raise CurationError(f"--out {out}: the name must end in {', '.join(kinds)}", "for example --out chosen.csv")
    store = Store(folder)
    spec = engine.spec_of(store)
    with progress() as step:
        found = selection.select(store, spec, size, seed=seed, model=model, progress=step)
    if out is not None:
        selection.write_table(found.table, out)
    action = selection.write_verdicts(store, spec, found) if write_verdicts else None
    _say(
        json_,
        {**found.as_dict(), "action": action, "out": str(out) if out else None, "chosen": found.table.to_pylist()},
        lambda: _selection_text(store, found, action, out, limit),
    )


def _selection_text(store: Any, found: Any, action: int | None, out: Path | None, limit: int) -> str:
    instructions = store.rows(columns=["instruction"])["instruction"]
    head = [
        (r["rank"], r["row"], r["family"] or "-", f"{r['gain']:.2f}", r["stands_for"], shorten(r["reason"], 60),
         shorten(instructions[r["row"]].as_py(), 40))
        for r in found.table.slice(0, limit).to_pylist()
    ]
    mean = sum(found.random_objective) / len(found.random_objective)
    near = sum(found.random_similarity) / len(found.random_similarity)
    lines = [
        table(head, ("rank", "row", "family", "gain", "stands for", "reason", "instruction")),
        f"\n{found.size:,} rows chosen of {found.eligible:,} that can be ({found.rows:,} in the folder)",
    ]
    lines += [f"  left out: {n:,} {why}" for why, n in found.left_out.items()]
    if found.drawn < found.eligible:
        lines.append(f"  chosen from a draw of {found.drawn:,} of them, by the hash of their uids")
    lines += [
        f"objective {found.objective:,.2f} ({found.neighbours} neighbours a row), {found.objective / found.bound:.1%} or more of "
        f"the best possible; random choices reach {mean:,.2f}",
        f"mean likeness of a row to the nearest chosen row: {found.similarity:.3f}, random {near:.3f}",
    ]
    if found.embedded:
        lines.append(f"embedded with {found.embedded}")
    unmet = [x for x in found.lines if not x.met]
    lines += [f"  note: {x}" for x in found.notes] + [f"  not met: {x.message}" for x in unmet[:limit]]
    lines += [f"  and {len(unmet) - limit} more of the spec's numbers (--json)"] if len(unmet) > limit else []
    if out:
        lines.append(f"wrote {out}")
    lines.append(
        f"action {action}: the other rows are left out from now on; curation review {store.path} --undo takes it back\n"
        f"next: curation gate {store.path}"
        if action is not None
        else "nothing is changed; --write-verdicts lets the choice count, --out FILE writes it as a table"
    )
    return "\n".join(lines)


@click.command("map")
@folder
@with_model
@click.option("--refit", is_flag=True, help="Lay the map out anew, turned to lie over the one before.")
@click.option("--colour", "colour", default="family", show_default=True, type=click.Choice(["family", "cluster", "verdict"]))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for map.png and map.html (default: FOLDER/report).")
@as_json
def map_(folder: Path, model: str, refit: bool, colour: str, out: Path | None, json_: bool) -> None:
    """Lay the rows out in the plane, rows that ask for like things side by side; rows keep their place between versions."""
    from . import engine, mapping
    from .store import Store

    store = Store(folder)
    spec = engine.spec_of(store)
    names = mapping.colours(store, spec, colour)
    with progress() as step:
        done = mapping.lay_out(store, refit=refit, model=model, progress=step)
    paths = mapping.draw(store, spec, done, out or folder / "report", colour=colour, names=names)
    said = [f"embedded with {done.embedded}"] if done.embedded else []
    lines = [done.sentence, *said, *(f"wrote {p}" for p in paths.values())]
    _say(json_, {**done.as_dict(), **paths}, "\n".join(lines))
