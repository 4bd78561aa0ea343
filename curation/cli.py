"""The verbs. Exit codes: 0 done or gate passed, 1 gate failed, 2 bad usage or data, 3 runtime fault, 130 stopped."""

from __future__ import annotations

import getpass
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from .errors import CurationError

log = logging.getLogger(__name__)


#: Environment variable that names the file in which a verb without a terminal says how far it is.
PROGRESS = "CURATION_PROGRESS"
#: Verbs in files of their own beside this one, loaded when asked for: {verb: module}.
ELSEWHERE = {
    "calibrate": "cli_calibrate",
    "clean": "cli_clean",
    "clusters": "cli_diversity",
    "families": "cli_diversity",
    "fixes": "cli_fixes",
    "coverage": "cli_selection",
    "duplicates": "cli_duplicates",
    "judge": "cli_judge",
    "map": "cli_selection",
    "matrix": "cli_matrices",
    "preferences": "cli_preferences",
    "select": "cli_selection",
    "write": "cli_writing",
}


class Verbs(click.Group):
    """The verbs of this file, those ELSEWHERE, and those registered under the entry-point group `curation.verbs`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *ELSEWHERE, *(e.name for e in entry_points(group="curation.verbs"))})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        found = super().get_command(ctx, name)
        if found is not None:
            return found
        if name in ELSEWHERE:
            module = import_module(f"{__package__}.{ELSEWHERE[name]}")
            own: click.Command = getattr(module, f"{name}_" if hasattr(module, f"{name}_") else name)
            return own
        for entry in entry_points(group="curation.verbs"):
            if entry.name == name:
                try:
                    command: click.Command = entry.load()
                except ImportError as e:
                    return _absent(name, e)
                return command
        return None


def _absent(name: str, error: ImportError) -> click.Command:
    """Return a verb that says what is missing, so that one absent extra does not break --help of all."""
    extra = "app" if name == "app" else "train"

    @click.command(
        name,
        help=f"(not installed: pip install 'curation-workbench[{extra}]')",
        context_settings={"ignore_unknown_options": True},
    )
    @click.argument("rest", nargs=-1)
    def stub(rest: tuple[str, ...]) -> None:
        raise CurationError(
            f"curation {name} needs a package that is not installed ({error})", f"pip install 'curation-workbench[{extra}]'"
        )

    return stub


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("-v", "--verbose", count=True, help="Say more on stderr (-vv: debug, with tracebacks).")
@click.version_option(package_name="curation-workbench")
def cli(verbose: int) -> None:
    """The dataset is the spec: check, review and export instruction data, train on it, see what changed and why."""
    logging.basicConfig(
        level=(logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)],
        stream=sys.stderr,
        format="%(levelname)s %(name)s: %(message)s",
    )


def main(args: Sequence[str] | None = None) -> None:
    """Run the CLI and leave with its exit code; a user's mistake never shows a traceback."""
    try:
        code = cli.main(args, standalone_mode=False)
    except CurationError as e:
        click.echo(f"error: {e.what}", err=True)
        if e.hint:
            click.echo(f"hint: {e.hint}", err=True)
        code = 2
    except click.ClickException as e:
        e.show()
        code = 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped; what was finished is kept, run the same command to go on", err=True)
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except Exception as e:
        log.debug("runtime fault", exc_info=True)
        click.echo(f"runtime fault: {type(e).__name__}: {e}\nhint: curation -vv ... shows where", err=True)
        code = 3
    sys.exit(code if isinstance(code, int) else 0)


# ---- what several verbs need

as_json = click.option("--json", "json_", is_flag=True, help="Print one JSON document for machines.")
folder = click.argument("folder", type=click.Path(path_type=Path))


def _say(json_: bool, value: Any, text: Callable[[], str] | str) -> None:
    """Print the JSON value, or the text for people."""
    if json_:
        click.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))
    else:
        click.echo(text if isinstance(text, str) else text())


def table(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> str:
    """Return aligned columns; numbers to the right."""
    cells = [
        [f"{c:,}" if isinstance(c, int) and not isinstance(c, bool) else "" if c is None else str(c) for c in r] for r in rows
    ]
    width = [max(len(x[k]) for x in [list(head), *cells]) for k in range(len(head))]
    right = [bool(rows) and isinstance(rows[0][k], (int, float)) for k in range(len(head))]
    return "\n".join(
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, width, right)).rstrip()
        for line in [list(head), *cells]
    )


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a progress function: a bar with rate and time left on a tty, a small file for the workbench, else silent."""
    if not sys.stderr.isatty():
        told = os.environ.get(PROGRESS)
        yield _told(Path(told)) if told else lambda name, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description:24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:>14}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    tasks: dict[str, Any] = {}

    def step(name: str, done: int, total: int) -> None:
        if name not in tasks:
            tasks[name] = bar.add_task(name, total=total or None, rate="")
        task = bar.tasks[bar.task_ids.index(tasks[name])]
        bar.update(tasks[name], completed=done, total=total or None, rate=f"{task.speed:,.0f}/s" if task.speed else "")
        if total and done >= total:
            bar.update(tasks[name], visible=False)

    with bar:
        yield step


def _told(path: Path) -> Callable[[str, int, int], None]:
    """Return a progress function that keeps {"name", "done", "total"} in a file, written at most twice a second."""
    last = 0.0

    def step(name: str, done: int, total: int) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= 0.5:
            last = now
            part = path.with_name(f".{path.name}.part")
            part.write_text(json.dumps({"name": name, "done": done, "total": total}), encoding="utf-8")
            part.replace(path)

    return step


def _actor(given: str | None) -> str:
    return given or getpass.getuser()


def _mapping(pairs: Sequence[str]) -> dict[str, str] | None:
    out: dict[str, str] = {}
    for text in pairs:
        if text.startswith("{"):
            out |= _mapping_object(text)
            continue
        for part in text.split(","):
            key, equals, value = part.partition("=")
            if not equals or not key or not value:
                raise CurationError(
                    f"--map {part!r}: expected field=column", "for example --map instruction=question,response=answer"
                )
            out[key.strip()] = value.strip()
    return out or None


def _mapping_object(text: str) -> dict[str, str]:
    """Return the mapping that one JSON object says, for column names with a comma or an equals sign."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise CurationError(f"--map {text!r}: not a JSON object of texts", """for example --map '{"instruction": "a, b"}'""")
    return value


def _import(
    source: str,
    to: Path,
    mapping: Sequence[str],
    skip_bad: bool,
    split: str | None,
    subset: str | None,
    append: bool = False,
) -> dict[str, Any]:
    from . import formats
    from .store import Store

    fresh = not to.exists()
    store = Store.create(to)
    rejected = to / "rejected.jsonl"
    try:
        with progress() as step:
            reading = formats.read(
                source,
                mapping=_mapping(mapping),
                skip_bad=skip_bad,
                rejected=rejected,
                progress=lambda done, total: step("import", done, total),
                split=split,
                subset=subset,
            )
            name = Path(source).name if source != "-" else "stdin"
            done = store.import_rows(reading, source=name, detected=reading.detected, append=append)
    except BaseException:
        if fresh and not rejected.exists():
            shutil.rmtree(to)  # made a moment ago for rows that did not come
        raise
    return {
        **vars(done),
        "detected": reading.detected,
        "refused": reading.refused,
        "rejected": str(rejected) if reading.refused else None,
        "folder": str(to),
    }


def _import_text(r: dict[str, Any]) -> str:
    lines = [
        f"{r['detected']}",
        f"{r['rows']:,} rows as version {r['version']} in {r['folder']}"
        + (f"; {r['copies']:,} are copies of another row" if r["copies"] else ""),
    ]
    if int(r["version"]) > 1:
        lines.append(f"{r['new']:,} are new, {r['gone']:,} of the version before are gone; verdicts stay with their rows")
    if r["refused"]:
        lines.append(f"{r['refused']:,} lines refused, each with its reason in {r['rejected']}")
    return "\n".join(lines)


import_options = [
    click.option(
        "--map",
        "mapping",
        multiple=True,
        metavar="FIELD=COLUMN",
        help="Name the columns: instruction=question,response=answer, or as one JSON object.",
    ),
    click.option("--skip-bad", is_flag=True, help="Leave bad lines out and list them with their reasons in rejected.jsonl."),
    click.option("--split", help="Split of a hub dataset or dataset folder."),
    click.option("--subset", help="Subset (configuration) of a hub dataset."),
]


def with_import_options(fn: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(import_options):
        fn = option(fn)
    return fn


# ---- verbs


@cli.command()
@folder
@click.argument("file", required=False)
@with_import_options
@click.option("--force", is_flag=True, help="Replace an existing spec.yaml.")
@as_json
def init(folder: Path, file: str | None, force: bool, json_: bool, **given: Any) -> None:
    """Make a dataset folder with a commented spec.yaml fitted to the data it is given."""
    from .fit import fitted_spec
    from .store import Store, atomic

    imported = _import(file, folder, **given) if file else None
    store = Store.create(folder)
    path = folder / "spec.yaml"
    if path.exists() and not force:
        raise CurationError(f"{path} already exists", "--force replaces it")
    text = fitted_spec(store)
    with atomic(path, "w") as f:
        f.write(text)
    _say(
        json_,
        {"spec": str(path), "import": imported},
        lambda: ((_import_text(imported) + "\n") if imported else "") + f"wrote {path}; read it, then: curation check {folder}",
    )


@cli.command("import")
@click.argument("file")
@click.option("--to", type=click.Path(path_type=Path), required=True, help="The dataset folder; made when absent.")
@click.option("--append", is_flag=True, help="Keep the rows that are there and add these behind them.")
@with_import_options
@as_json
def import_(file: str, to: Path, json_: bool, **given: Any) -> None:
    """Read pairs from a file, a dataset folder, a hub id or - (stdin) into a dataset folder, as a new version."""
    result = _import(file, to, **given)
    _say(json_, result, lambda: _import_text(result))


@cli.group()
def spec() -> None:
    """Show or check a spec, or print its JSON schema for editors."""


def _spec_path(path: Path) -> Path:
    return path / "spec.yaml" if path.is_dir() else path


@spec.command("show")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@as_json
def spec_show(path: Path | None, json_: bool) -> None:
    """Print the resolved spec: every key with the value that holds."""
    from .checks import CHECKS
    from .spec import Spec, dump, load

    resolved = load(_spec_path(path), CHECKS) if path else Spec()
    _say(json_, resolved.model_dump(mode="json"), lambda: dump(resolved))


@spec.command("check")
@click.argument("path", type=click.Path(path_type=Path))
@as_json
def spec_check(path: Path, json_: bool) -> None:
    """Read a spec and list every mistake with its line."""
    from .checks import CHECKS
    from .spec import load

    found = load(_spec_path(path), CHECKS)
    _say(
        json_,
        {"ok": True, "hash": found.hash, "families": len(found.families)},
        f"{_spec_path(path)}: {len(found.families)} families, {len(found.refusals.categories)} refusal categories, "
        f"hash {found.hash}",
    )


@spec.command("schema")
def spec_schema() -> None:
    """Print the JSON schema of spec.yaml, for editors."""
    from .spec import json_schema

    click.echo(json.dumps(json_schema(), indent=1))


@cli.command()
@click.argument("path")
@click.option("--out", type=click.Path(path_type=Path), help="Write flags.parquet, signals.parquet and result.json there.")
@click.option("--checks", "only", help="Only these, comma-separated.")
@click.option("--set", "settings", multiple=True, metavar="CHECK.OPTION=VALUE", help="Override an option; repeatable.")
@click.option("--spec", "spec_file", type=click.Path(path_type=Path), help="The spec to use for a bare file.")
@click.option("--workers", type=click.IntRange(1), help="Processes for row checks (default: one a core).")
@click.option("--engine", "runs_on", type=click.Choice(["local", "ray"]), default="local",
              help="Where near-duplicates are looked for: here, or on a Ray cluster. Row checks run here either way.")
@click.option("--address", default="", help="The Ray cluster: auto, or HOST:PORT of its head (default: one on this machine).")
@with_import_options
@as_json
def check(
    path: str,
    out: Path | None,
    only: str | None,
    settings: tuple[str, ...],
    spec_file: Path | None,
    workers: int | None,
    runs_on: str,
    address: str,
    json_: bool,
    **given: Any,
) -> None:
    """Run the checks on a dataset folder or on a bare file."""
    if runs_on == "ray":
        from .scale import running

        click.get_current_context().with_resource(running(address, workers))
    elif address:
        raise CurationError(f"--address {address} without --engine ray", "add --engine ray, or leave --address out")
    from . import engine
    from .spec import Spec, load
    from .store import Store

    if Path(path).is_dir() and (Path(path) / "rows").is_dir():
        store = Store(path)
        the_spec = load(spec_file, engine.CHECKS) if spec_file else engine.spec_of(store)
        result = _check(store, the_spec, only, settings, out, workers)
        _say(json_, result, lambda: _check_text(result, str(path)))
        return
    the_spec = load(spec_file, engine.CHECKS) if spec_file else Spec()
    overrides = engine.overrides_of(settings)
    for unit in engine.plan(engine.choose(the_spec, _names(only))):     # what is wrong is said before the file is read
        engine.resolve(unit, the_spec, overrides)
    with tempfile.TemporaryDirectory(prefix="curation-") as temp:
        imported = _import(path, Path(temp), **given)
        store = Store(temp)
        if out is not None and imported["refused"]:
            out.mkdir(parents=True, exist_ok=True)
            (out / "rejected.jsonl").write_bytes((Path(temp) / "rejected.jsonl").read_bytes())
            imported["rejected"] = str(out / "rejected.jsonl")
        result = {
            **_check(store, the_spec, only, settings, out, workers),
            "detected": imported["detected"],
            "refused": imported["refused"],
        }
        _say(
            json_,
            result,
            lambda: (
                f"{imported['detected']}\n"
                + (f"{imported['refused']:,} lines refused\n" if imported["refused"] else "")
                + _check_text(result, None)
            ),
        )


def _names(only: str | None) -> list[str] | None:
    """Return the checks named on the command line, None for all."""
    return [c.strip() for c in only.split(",") if c.strip()] if only else None


def _check(
    store: Any, the_spec: Any, only: str | None, settings: tuple[str, ...], out: Path | None, workers: int | None
) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from . import engine, gate
    from .store import atomic, write_json

    with progress() as step:
        done = engine.check(
            store, the_spec, checks=_names(only), overrides=engine.overrides_of(settings), progress=step, workers=workers
        )
    result = {
        "rows": done.rows,
        "flagged_rows": done.flagged_rows,
        "flags": done.flags,
        "severities": done.severities,
        "seconds": round(done.seconds, 2),
        "policy": {c: gate.action_of(c, the_spec) for c in done.flags},
        "cached": list(done.cached),
        "ran": list(done.ran),
        "options": done.options,
    }
    if out is not None:

        def plain(table: pa.Table) -> pa.Table:
            return pa.table(
                {
                    f.name: table[f.name].cast(pa.string()) if pa.types.is_dictionary(f.type) else table[f.name]
                    for f in table.schema
                }
            )

        for name, found in (("flags", store.flags()), ("signals", store.signals())):
            with atomic(out / f"{name}.parquet") as f:
                pq.write_table(plain(found), f, compression="zstd")
        write_json(out / "result.json", result)
    return result


def _check_text(result: dict[str, Any], folder: str | None) -> str:
    from .checks import CHECKS
    from .checks.base import first_line

    def graded(check: str) -> str:
        by = result["severities"][check]
        return next(iter(by)) if len(by) == 1 else ", ".join(f"{n:,} {s}" for s, n in by.items())

    found = sorted(((n, c) for c, n in result["flags"].items() if n), reverse=True)
    lines = (
        [
            table(
                [(c, n, graded(c), result["policy"][c], first_line(CHECKS[c])) for n, c in found],
                ("check", "flags", "severity", "policy", "what it found"),
            )
        ]
        if found
        else []
    )
    quiet = sorted(c for c, n in result["flags"].items() if not n)
    if quiet:
        lines.append(f"nothing found by: {', '.join(quiet)}")
    lines.append(
        f"{result['flagged_rows']:,} of {result['rows']:,} rows have a flag "
        f"({len(result['ran'])} checks and signals run, {len(result['cached'])} taken from before, {result['seconds']:.1f} s)"
    )
    if folder:
        lines.append(f"next: curation gate {folder}   or look: curation show {folder} --check ID")
    return "\n".join(lines)


@cli.command()
@folder
@click.option("--check", "check_id", help="Rows with a flag of this check.")
@click.option("--dropped", is_flag=True, help="Every rejected row with check, score, threshold, reason and actor.")
@click.option("--row", type=int, help="One row in full: turns, flags, signals, history.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Rows to print (--json: all).")
@as_json
def show(folder: Path, check_id: str | None, dropped: bool, row: int | None, limit: int, json_: bool) -> None:
    """Show rows behind a check, one row in full, or all that was dropped."""
    from . import engine, gate, review
    from .store import Store, spelled_out
    from .text import shorten

    store = Store(folder)
    the_spec = engine.spec_of(store)
    if row is not None:
        value = _row(store, row)
        _say(json_, value, lambda: _row_text(value))
        return
    state = gate.effective(store, the_spec)
    if dropped:
        gone = review.dropped(store, the_spec, state)
        _say(
            json_,
            gone,
            lambda: (
                table(
                    [
                        (
                            d["row"],
                            d["check"] or d["kind"],
                            "" if d["score"] is None else f"{d['score']:.2f}",
                            "" if d["threshold"] is None else d["threshold"],
                            shorten(d["reason"], 70),
                            d["instruction"],
                        )
                        for d in gone[:limit]
                    ],
                    ("row", "check", "score", "threshold", "reason", "instruction"),
                )
                + f"\n{len(gone):,} rows dropped in all; curation review {folder} --accept ROW brings one back"
            ),
        )
        return
    if check_id and check_id not in engine.CHECKS:
        engine.choose(the_spec, [check_id])
    found = [f for f in spelled_out(state.flags).to_pylist() if check_id is None or f["check"] == check_id]
    instructions = state.rows["instruction"]
    _say(
        json_,
        found,
        lambda: (
            table(
                [
                    (
                        f["row"],
                        f["check"],
                        f["severity"],
                        f"{f['score']:.2f}",
                        shorten(f["message"], 80),
                        shorten(instructions[f["row"]].as_py(), 50),
                    )
                    for f in found[:limit]
                ],
                ("row", "check", "severity", "score", "message", "instruction"),
            )
            + f"\n{len(found):,} flags in all"
        ),
    )


def _row(store: Any, number: int) -> dict[str, Any]:
    import pyarrow.compute as pc

    from .engine import spec_of
    from .gate import apply_edits, effective

    rows = store.rows()
    if not 0 <= number < rows.num_rows:
        raise CurationError(f"row {number}: rows go from 0 to {rows.num_rows - 1}", "curation show FOLDER lists rows with flags")
    one = rows.slice(number, 1)
    uid = one["uid"][0].as_py()
    edits = store.verdicts.edits().get(uid)
    value = (apply_edits(one, {0: edits}) if edits else one).to_pylist()[0]
    flags, signals = store.flags(), store.signals()
    if edits and signals is not None:   # an edited row is shown with what the checks say of it now
        state = effective(store, spec_of(store))
        flags, signals = state.flags, state.signals
    decision = store.verdicts.decisions().get(uid)
    return {
        **value,
        "edited": sorted(edits or {}),
        "flags": flags.filter(pc.equal(flags["row"], number)).to_pylist(),
        "signals": signals.slice(number, 1).to_pylist()[0] if signals is not None else None,
        "decision": vars(decision) if decision else None,
        "history": store.verdicts.history(uid),
    }


def _row_text(v: dict[str, Any]) -> str:
    lines = [
        f"row {v['row']}  uid {v['uid']}  family {v['family'] or '-'}"
        + (f"  edited: {', '.join(v['edited'])}" if v["edited"] else "")
    ]
    lines += [f"\n[{m['role']}]\n{_inert(m['content'])}" for m in v["messages"]]
    lines += [f"\n{f['severity']} {f['check']} ({f['score']:.2f}, {f['field']}): {f['message']}" for f in v["flags"]]
    if v["decision"]:
        lines.append(f"\n{v['decision']['verdict']} by {v['decision']['actor']}: {v['decision']['reason']}")
    return "\n".join(lines)


def _inert(text: str) -> str:
    """Return text without the control characters that move a terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() else repr(c)[1:-1] for c in text)


@cli.command()
@folder
@click.option("--queue", help="List a queue: errors, warnings, borderline, sample, random, conflicts, fixes, failed, hard, "
              "second (blind second readings), disagreement, dropped.")
@click.option("--check", "check", default="", help="With --queue: only flags of this check.")
@click.option("--agreement", is_flag=True, help="How far second readings agree with the first: share and Cohen's kappa.")
@click.option("--precision", is_flag=True, help="How often each check was found right on rows drawn by chance (queue sample).")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1))
@click.option("--apply-policy", is_flag=True, help="Let the spec's policy decide: drop, fix, or leave to a person.")
@click.option("--verdicts", "file", type=click.Path(path_type=Path), help="Take verdicts from a CSV or JSONL file.")
@click.option("--accept", "accept", metavar="ROWS", help="Accept these row numbers, comma-separated.")
@click.option("--reject", "reject", metavar="ROWS", help="Reject these row numbers, comma-separated.")
@click.option("--accept-check", metavar="CHECK", help="Accept every undecided row flagged by this check.")
@click.option("--reject-check", metavar="CHECK", help="Reject every undecided row flagged by this check.")
@click.option("--accept-fixes", metavar="CHECK", help="Take the proposed repair of every flag of this check.")
@click.option("--undo", is_flag=False, flag_value="last", metavar="[ACTION]", help="Take back the last action, or this one.")
@click.option("--history", is_flag=True, help="List every action, newest first.")
@click.option("--reason", default="", help="Why, written beside the verdict.")
@click.option("--actor", help="Who decides (default: the login name).")
@as_json
def review(
    folder: Path, json_: bool, queue: str | None, limit: int, history: bool, check: str, agreement: bool, precision: bool,
    **given: Any,
) -> None:
    """List what to look at next, store verdicts, undo them."""
    from . import engine, gate
    from . import review as desk
    from .store import Store

    store = Store(folder)
    the_spec = engine.spec_of(store)
    if queue:
        rows = desk.queue(store, the_spec, queue, limit if not json_ else 10**9, check=check, reader=_actor(given["actor"]))
        _say(
            json_,
            rows,
            lambda: (
                f"{desk.QUEUES[queue]}\n"
                + table(
                    [(r["row"], f"{r['score'] or 0:.2f}", r["check"], r["reason"]) for r in rows],
                    ("row", "score", "check", "reason"),
                )
            ),
        )
        return
    if agreement or precision:
        _readers(store, the_spec, json_, agreement, precision)
        return
    if history:
        actions = store.verdicts.history()
        _say(
            json_,
            actions,
            lambda: table(
                [
                    (
                        a["id"],
                        a["at"][:19],
                        a["actor"],
                        a["kind"],
                        a["rows"],
                        "undone" if a["undone"] else "",
                        a["note"] or a["reason"],
                    )
                    for a in actions
                ],
                ("action", "at", "actor", "kind", "rows", "", "note"),
            ),
        )
        return
    done = _decide(store, the_spec, given)
    if done is not None:
        _say(json_, done, done["text"])
        return
    progress = desk.progress(store, gate.effective(store, the_spec))
    reader = _actor(given["actor"])
    drawn = ("random", "sample")
    counts = {n: len(desk.queue(store, the_spec, n, 10**9, reader=reader)) for n in desk.QUEUES if n not in drawn}
    _say(
        json_,
        {"progress": progress, "queues": counts},
        lambda: (
            table([(n, c, desk.QUEUES[n]) for n, c in counts.items()], ("queue", "rows", "what is in it"))
            + f"\n{progress['rejected']:,} rejected, {progress['accepted']:,} accepted, {progress['edited']:,} edited, "
            f"{progress['open']:,} flagged rows without a verdict"
        ),
    )


def _readers(store: Any, the_spec: Any, json_: bool, agreement: bool, precision: bool) -> None:
    """Say how far two readers agree, and how often each check was right."""
    from . import agreement as readers
    from . import review as desk

    value: dict[str, Any] = {}
    lines = []
    if agreement:
        found = readers.agreement(store)
        value["agreement"] = found.as_dict()
        lines.append(f"{found.sentence}\n{found.open:,} disagreements wait for a decision, {found.settled:,} are settled")
    if precision:
        checks = desk.precisions(store, the_spec)
        value["precision"] = [p.as_dict() for p in checks]
        shown = [(p.check or "all checks", p.sentence) for p in checks]
        lines.append(table(shown, ("check", "drawn rows")) if checks else "no drawn row is decided yet: --queue sample")
    _say(json_, value, "\n".join(lines))


def _decide(store: Any, the_spec: Any, given: dict[str, Any]) -> dict[str, Any] | None:
    """Carry out the one decision that the options ask for; None when they ask for none."""
    from . import engine, gate
    from . import review as desk

    asked = [
        k
        for k in ("apply_policy", "file", "accept", "reject", "accept_check", "reject_check", "accept_fixes", "undo")
        if given[k]
    ]
    if len(asked) > 1:
        names = ", ".join("--" + ("verdicts" if k == "file" else k.replace("_", "-")) for k in asked)
        raise CurationError(f"{names} in one call", "one decision a call, so that each can be undone alone")
    if not asked:
        return None
    actor, reason, what = _actor(given["actor"]), given["reason"], asked[0]
    if what == "undo":
        action = given["undo"]
        if action != "last" and not action.isdigit():
            raise CurationError(f"--undo {action!r} is not an action number", "curation review FOLDER --history lists them")
        number = store.verdicts.undo(None if action == "last" else int(action), actor=actor)
        return {"undone": number, "text": f"action {number} is undone"}
    if what == "apply_policy":
        counts = gate.apply_policy(store, the_spec)
        return {
            "decided": counts,
            "text": table([(c, n) for c, n in counts.items()], ("check", "rows decided"))
            + f"\n{sum(counts.values()):,} rows decided by the spec's policy; curation review {store.path} --undo takes it back"
            if counts
            else "the policy has nothing new to decide",
        }
    if what == "file":
        entries = desk.read_verdicts(given["file"], store)
    elif what in ("accept", "reject"):
        entries = desk.entries_for(store, the_spec, what, rows=_numbers(given[what]), reason=reason)
    else:
        engine.choose(the_spec, [given[what]])
        verdict = {"accept_check": "accept", "reject_check": "reject", "accept_fixes": "fix"}[what]
        entries = desk.entries_for(store, the_spec, verdict, check=given[what], reason=reason)
    if not entries:
        return {"action": None, "rows": 0, "text": "no undecided row to decide"}
    kind = "fix" if what == "accept_fixes" else "person"
    action = store.verdicts.append(entries, actor=actor, kind=kind, note=reason or what.replace("_", " "))
    return {
        "action": action,
        "rows": len(entries),
        "text": f"action {action}: {len(entries):,} verdicts stored; --undo takes them back together",
    }


def _numbers(text: str) -> list[int]:
    try:
        return [int(x) for x in text.split(",")]
    except ValueError:
        raise CurationError(f"{text!r} is not a list of row numbers", "for example --accept 12,40") from None


@cli.command()
@folder
@as_json
@click.pass_context
def gate(ctx: click.Context, folder: Path, json_: bool) -> int:
    """Say whether the set may leave, with reasons; exit 1 when it may not."""
    from . import engine
    from . import gate as the_gate
    from .store import Store

    store = Store(folder)
    result = the_gate.evaluate(store, engine.spec_of(store))
    _say(json_, result.as_dict(), lambda: gate_text(result, str(folder)))
    return 0 if result.passed else 1


def gate_text(result: Any, folder: str) -> str:
    """Return the verdict of the gate for people: sentence, reasons, what was dropped, what to do."""
    lines = [result.sentence]
    lines += [f"  - {r}" for r in result.reasons]
    if result.rejected:
        lines.append("left out: " + ", ".join(f"{c} {n:,}" for c, n in result.rejected.items()))
    if result.open_flags:
        lines.append("open: " + ", ".join(f"{c} {n:,}" for c, n in result.open_flags.items()))
    lines.append(
        f"next: curation export {folder}"
        if result.passed
        else f"next: curation review {folder} --apply-policy, then curation review {folder} --queue errors"
    )
    return "\n".join(lines)


@cli.command()
@folder
@click.option(
    "--format", "format_", default="messages", show_default=True, help="messages, alpaca, sharegpt or prompt-completion."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write (default: FOLDER/vetted/<n>).")
@click.option("--raw", is_flag=True, help="Every row as imported, no verdict applied: the arm to compare with.")
@click.option("--override", default="", metavar="REASON", help="Export though the gate failed; the manifest records why.")
@as_json
def export(folder: Path, format_: str, out: Path | None, raw: bool, override: str, json_: bool) -> int:
    """Write the vetted set: splits, manifest, ledger, dataset card, recipes; exit 1 when the gate failed."""
    from . import engine
    from . import export as exporter
    from . import gate as the_gate
    from .store import Store

    store = Store(folder)
    the_spec = engine.spec_of(store)
    if raw and out is None:
        raise CurationError("--raw needs --out", "name a folder, for example --out raw-set")
    if not raw and not override:
        result = the_gate.evaluate(store, the_spec)
        if not result.passed:
            _say(json_, {"gate": "failed", "reasons": result.reasons}, lambda: gate_text(result, str(folder)))
            return 1
    done = exporter.export(store, the_spec, format=format_, out=out, gated=not raw, override=override)
    counts = done["counts"]
    _say(
        json_,
        done,
        f"{done['path']}: {counts['train']:,} rows to train on, {counts['validation']:,} held out, "
        f"{counts['dropped']:,} left out, {counts['edited']:,} edited; set {done['hash']}"
        + ("" if done["written"] else " (already there, unchanged)")
        + f"\nnext: curation train {done['path']}",
    )
    return 0


@cli.command()
@folder
@click.option("--out", type=click.Path(path_type=Path), help="Folder for report.html and report.json (default: FOLDER/report).")
@as_json
def report(folder: Path, out: Path | None, json_: bool) -> None:
    """Write an HTML and a JSON report of the gate, the checks with findings in context, and the coverage."""
    from . import engine
    from . import report as reporter
    from .store import Store

    store = Store(folder)
    paths = reporter.write(store, engine.spec_of(store), out or folder / "report")
    _say(json_, paths, "\n".join(f"wrote {p}" for p in paths.values()))


@cli.command()
@folder
@click.argument("old")
@click.argument("new", required=False)
@as_json
def diff(folder: Path, old: str, new: str | None, json_: bool) -> None:
    """Compare two row versions (which rows came, went and stayed), or vetted sets: OLD and NEW as vetted or vetted/3.

    Without NEW a vetted set is held against the folder as it would be exported now, with the reason of each change.
    """
    from .store import Store
    from .text import shorten

    store = Store(folder)
    if old.startswith("vetted"):
        import_module(f"{__package__}.cli_writing").diff_of_sets(store, old, new, json_)
        return
    a, b = (
        store.rows(f"{int(old):04d}" if old.isdigit() else old),
        store.rows(f"{int(new):04d}" if new and new.isdigit() else new),
    )
    before, after = a["uid"].to_pylist(), b["uid"].to_pylist()
    gone, came = sorted(set(before) - set(after)), sorted(set(after) - set(before))
    at = {uid: i for i, uid in enumerate(after)}
    value = {"old": old, "new": new or store.version, "gone": gone, "came": came, "stayed": len(set(before) & set(after))}
    _say(
        json_,
        value,
        lambda: "\n".join(
            [f"{len(came):,} rows came, {len(gone):,} went, {value['stayed']:,} stayed"]
            + [f"+ {shorten(b['instruction'][at[u]].as_py())}" for u in came[:10]]
        ),
    )


@cli.command()
@click.argument("id", required=False)
@as_json
def checks(id: str | None, json_: bool) -> None:
    """List the checks, or explain one: what it finds, why, what it misses, its options."""
    from .checks import CHECKS
    from .checks.base import first_line
    from .engine import choose
    from .measured import measured, said
    from .options import allowed
    from .spec import Spec

    if id:
        unit = choose(Spec(), [id])[0]
        options = {n: f.default for n, f in unit.options.model_fields.items()}
        takes = {n: allowed(unit.options, n) for n in options}
        _say(
            json_,
            {
                "id": id,
                "severity": unit.severity,
                "action": unit.action,
                "scope": unit.scope,
                "version": unit.version,
                "reads": unit.reads,
                "needs": unit.needs,
                "options": options,
                "allowed": takes,
                "doc": unit.doc,
                "measured": measured().get(id, []),
            },
            lambda: (
                f"{id}  (v{unit.version}, {unit.severity}, policy: {unit.action}, {unit.scope} scope)\n\n{unit.doc}\n\n"
                + ("options:" if options else "no options")
                + "".join(f"\n  {n}: {json.dumps(v)}" + f"  # {takes[n]}" * bool(takes[n]) for n, v in options.items())
                + "".join(f"\nmeasured: {x}" for x in said(id))
            ),
        )
        return
    units = [u for _, u in sorted(CHECKS.items())]
    _say(
        json_,
        [{"id": u.id, "severity": u.severity, "action": u.action, "version": u.version, "what": first_line(u)} for u in units],
        lambda: table(
            [(u.id, u.severity, u.action, first_line(u)) for u in units], ("check", "severity", "policy", "what it finds")
        ),
    )


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path), default="demo")
@click.option(
    "--seeds", default=4, show_default=True, type=click.IntRange(1), help="Runs an arm; below 4 no test can reach p < .05."
)
@click.option("--steps", type=click.IntRange(1), help="Training steps a run (default: the tiny recipe's).")
@click.option("--no-train", is_flag=True, help="Stop after the vetted set.")
def demo(folder: Path, seeds: int, steps: int | None, no_train: bool) -> int:
    """Go round the whole loop once on the sample data: check, gate, vetted set, training, evaluation, back to rows."""
    from .demo import run

    return run(folder, seeds=seeds, steps=steps, train=not no_train)


if __name__ == "__main__":
    main()
