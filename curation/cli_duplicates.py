"""The verb `duplicates`: clusters of like rows, which row is kept and why, and word by word what differs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from .cli import _inert, _say, as_json, folder
from .errors import CurationError

SHOWN = 10          # members of a cluster that are printed
WIDE = 60           # characters of an unchanged stretch that are printed on either side of a change
FIELDS = ("instruction", "input", "response")


@click.command()
@folder
@click.option("--threshold", type=click.FloatRange(0, 1, min_open=True), help="Count again from this similarity on, at once.")
@click.option("--row", type=click.IntRange(0), help="Only the cluster that holds this row.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Clusters to print (--json: all).")
@click.option("--diff/--no-diff", default=None, help="Show what differs, word by word (default: yes, with --json no).")
@as_json
def duplicates(folder: Path, threshold: float | None, row: int | None, limit: int, diff: bool | None, json_: bool) -> None:
    """List clusters of exact and near duplicates: members, similarity, the row that is kept and why."""
    from . import engine, gate
    from .store import Store

    if threshold is not None and threshold != threshold:
        raise CurationError("--threshold nan is not a similarity", "use a number above 0 and at most 1, such as 0.9")
    store = Store(folder)
    spec = engine.spec_of(store)
    state = gate.effective(store, spec)
    if row is not None and row >= state.rows.num_rows:
        raise CurationError(f"row {row}: rows go from 0 to {state.rows.num_rows - 1}", f"curation show {folder} lists rows")
    options = (store.current() or {}).get("options", {}).get("dup.near", {})
    found = clusters_of(state, spec, options, threshold, folder)
    if row is not None:
        found = [c for c in found if row in (m["row"] for m in c["rows"])]
    show = found if json_ else found[:limit]
    if diff or (diff is None and not json_):
        for cluster in show:
            add_diffs(cluster, state.rows, None if json_ else SHOWN)
    about = search_of(options)
    _say(json_, {"clusters": found, "rows": sum(len(c["rows"]) for c in found), "threshold": threshold, "search": about},
         lambda: _text(show, found, folder, about, threshold, row))


def search_of(options: dict[str, Any]) -> dict[str, Any] | None:
    """Return how dup.near looked for pairs: its options, bands, minima a band, expected recall; None when it has not run."""
    from .sketch import plan

    if not options:
        return None
    bands, width, recall = plan(options["threshold"], options["num_perm"])
    return {**options, "bands": bands, "width": width, "recall": round(recall, 5)}


def clusters_of(
    state: Any, spec: Any, options: dict[str, Any], threshold: float | None, folder: Path | str = "FOLDER",
) -> list[dict[str, Any]]:
    """Return [{cluster, kept, why, rows: [{row, uid, similarity, instruction, input, response, check, reason}]}].

    `options`: those dup.near ran with. With a `threshold` near-duplicates are joined from there on: flags carry their
    similarity, and with the option `floor` those below the threshold of the run are there too.
    """
    import numpy as np

    from . import clusters, gate

    flags = state.flags if threshold is None else _from(state.flags, options, threshold, folder)
    order = gate.ranking(state, spec)
    out: list[dict[str, Any]] = []
    rejected = np.zeros(state.rows.num_rows, bool)
    for kept, others, _ in clusters.clusters(flags):
        members = [kept, *others]
        best = min(members, key=order.key)
        rejected[[m for m in members if m != best]] = True
    for line in clusters.listing(state.rows, flags, rejected=rejected).to_pylist():
        number = line.pop("cluster")
        if line.pop("kept"):
            out.append({"cluster": number, "kept": line["row"], "why": "", "rows": [line]})
            continue
        out[-1]["rows"].append(line)
        line["why"] = order.why(out[-1]["kept"], line["row"])
    for cluster in out:
        cluster["why"] = min(cluster["rows"][1:], key=lambda m: order.key(m["row"]))["why"]
    return out


def _from(flags: Any, options: dict[str, Any], threshold: float, folder: Path | str) -> Any:
    """Return the flags that join rows when near-duplicates begin at `threshold`."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    low = options.get("floor") or options.get("threshold")
    if low is None:
        raise CurationError("dup.near has not been run on these rows", f"curation check {folder}, or with --checks dup.near")
    if threshold < low:
        raise CurationError(
            f"pairs below {low:g} were not kept", f"curation check {folder} --set dup.near.floor={threshold:g}, then ask again"
        )
    name = np.asarray(flags["check"].cast(pa.string()))
    exact, near = name == "dup.exact", (name == "dup.near") & (flags["score"].to_numpy() >= threshold - 1e-6)
    some = flags.filter(pa.array(exact | near))
    # A flag names the row it resembles first; how far it resembles the others of its old cluster is not said.
    first = pc.list_slice(some["related"], 0, 1).cast(some.schema.field("related").type)
    some = some.set_column(some.schema.get_field_index("related"), some.schema.field("related"), first)
    severity = pa.array(["warning"] * some.num_rows, pa.string()).dictionary_encode().cast(some.schema.field("severity").type)
    return some.set_column(some.schema.get_field_index("severity"), some.schema.field("severity"), severity)


def add_diffs(cluster: dict[str, Any], rows: Any, most: int | None) -> None:
    """Give the members (the first `most`) what differs from the kept row: diff {field: [(op, text)]}, equal fields left out."""
    from .clusters import word_diff

    kept = {f: rows[f][cluster["kept"]].as_py() or "" for f in FIELDS}
    for line in cluster["rows"][1 : None if most is None else most + 1]:
        own = {f: rows[f][line["row"]].as_py() or "" for f in FIELDS}
        line["diff"] = {f: word_diff(kept[f], own[f]) for f in FIELDS if kept[f] != own[f]}


def _text(
    show: list[dict[str, Any]], found: list[dict[str, Any]], folder: Path, about: dict[str, Any] | None, threshold: float | None,
    row: int | None,
) -> str:
    colour = sys.stdout.isatty()
    cut = threshold or (about["threshold"] if about else 0.0)
    lines = [line for cluster in show for line in _cluster(cluster, cut, colour)]
    if row is not None and not found:
        lines.append(f"row {row} is in no cluster" + (f" from {threshold:g} on" if threshold else ""))
    else:
        extra = sum(len(c["rows"]) - 1 for c in found)
        lines.append(f"{len(found):,} clusters{f' from {threshold:g} on' if threshold else ''}, {extra:,} rows beside those that "
                     "are kept" + (f"; the first {len(show):,} are shown" if len(show) < len(found) else ""))
    if about:
        lines.append(f"dup.near looked at {about['bands']} bands of {about['width']} out of {about['num_perm']} minima: "
                     f"{about['recall']:.3%} of the pairs at {about['threshold']:g} are met, closer ones more surely; each pair "
                     "was then verified")
    if found:
        other = "" if threshold else f"   or: curation duplicates {folder} --threshold 0.9"
        lines.append(f"next: curation review {folder} --apply-policy{other}")
    return "\n".join(lines)


def _cluster(cluster: dict[str, Any], cut: float, colour: bool) -> list[str]:
    """Return the lines of a cluster; where the similarity printed is below `cut`, what the flag says too: one instruction
    may contain the other, and a member may resemble another one more."""
    rows = cluster["rows"]
    lines = [f"cluster {cluster['cluster']}: {len(rows):,} rows; row {cluster['kept']} is kept because {cluster['why']}"]
    for line in rows[1 : SHOWN + 1]:
        alike = ", ".join(f"{f} {line[f]:.2f}" for f in FIELDS)
        said = f": {_inert(line['reason'])}" if line["similarity"] < cut and line["reason"] else ""
        lines.append(f"  row {line['row']}  {line['similarity']:.2f} ({alike})  {line['check']}{said}".rstrip())
        lines += [f"    {field}: {drawn(parts, colour)}" for field, parts in line.get("diff", {}).items()]
    if len(rows) > SHOWN + 1:
        lines.append(f"  and {len(rows) - SHOWN - 1:,} more (--json lists all)")
    return lines


def drawn(parts: list[tuple[str, str]], colour: bool) -> str:
    """Return a word diff on one line: what the kept row alone has in red or [-so-], what this row has in green or {+so+}."""
    out = []
    for op, text in _stretches(parts):
        plain = " ".join(_inert(text).split("\n"))
        if op == "equal":
            out.append(plain if len(plain) <= 2 * WIDE else f"{plain[:WIDE]} … {plain[-WIDE:]}")
        elif colour:
            out.append(click.style(plain, fg="red" if op == "delete" else "green", strikethrough=op == "delete"))
        else:
            out.append(f"[-{plain}-]" if op == "delete" else f"{{+{plain}+}}")
    return "".join(out)


def _stretches(parts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return a word diff in which exchanged words with only blanks between them are one exchange: easier to read."""
    out: list[tuple[str, str]] = []
    run: list[tuple[str, str]] = []
    for op, text in [*parts, ("equal", "")]:
        if op != "equal" or (run and text.isspace()):
            run.append((op, text))
            continue
        behind = [run.pop()] if run and run[-1][0] == "equal" else []
        if {"delete", "insert", "equal"} <= {x for x, _ in run}:
            run = [(side, "".join(t for x, t in run if x in (side, "equal"))) for side in ("delete", "insert")]
        out += [*run, *behind, (op, text)]
        run = []
    return out[:-1]
