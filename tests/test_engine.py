"""The engine: cached by what a unit reads, the same result with and without workers, usable after an interrupt."""

import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation import engine
from curation.checks import CHECKS
from curation.checks.base import flags
from curation.errors import CurationError
from curation.model import FLAGS
from curation.presidio import installed
from curation.spec import parse
from curation.store import Store, read_arrow, write_arrow
from curation.workers import Team

from .rows import make_rows

GIVEN = [
    {"instruction": "Name a prime.", "response": "Seven is a prime number."},
    {"instruction": "Name a colour.", "response": "   "},
    {"instruction": "Name a prime.", "response": "Seven is a prime number."},
    {"instruction": "Who wrote this?", "response": "<noinput>"},
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "set")
    store.import_rows(make_rows(GIVEN).to_batches(), source="x")
    return store


def test_flags_have_the_schema_and_sit_on_the_right_rows(store: Store) -> None:
    done = engine.check(store, engine.spec_of(store))
    flags = store.flags()
    assert flags.schema == FLAGS
    found = {(f["row"], f["check"]) for f in flags.to_pylist()}
    assert (1, "response.empty") in found and (2, "dup.exact") in found and (3, "response.placeholder") in found
    assert not [f for f in found if f[0] == 0 and not f[1].startswith("dup.")]
    assert done.rows == 4 and done.flagged_rows == len(set(flags["row"].to_pylist()))
    signals = store.signals()
    assert signals is not None and signals.column_names[:2] == ["row", "uid"]
    assert {"family", "refusal", "harm", "n_chars"} <= set(signals.column_names)


def test_second_run_is_taken_from_the_folder(store: Store) -> None:
    engine.check(store, engine.spec_of(store))
    again = engine.check(store, engine.spec_of(store))
    assert not again.ran and len(again.cached) == len(CHECKS) + len(engine.SIGNAL_UNITS)


def test_only_what_depends_on_a_change_runs_again(store: Store) -> None:
    engine.check(store, engine.spec_of(store))
    again = engine.check(store, engine.spec_of(store), overrides={"response.empty": {"min_chars": 30}})
    assert again.ran == ("response.empty",)
    assert again.flags["response.empty"] > 1
    gate_only = parse("gate: {min_rows: 3}")
    assert not engine.check(store, gate_only, overrides={"response.empty": {"min_chars": 30}}).ran


def test_new_rows_void_the_old_flags(store: Store) -> None:
    engine.check(store, engine.spec_of(store))
    assert store.flags().num_rows
    store.import_rows(make_rows(GIVEN[:1]).to_batches(), source="y")
    assert store.flags().num_rows == 0 and store.signals() is None


def test_a_result_with_messages_spelled_out_is_read_beside_others_and_rows_are_added_to_it(store: Store) -> None:
    checks = ["response.empty", "response.placeholder"]
    engine.check(store, engine.spec_of(store), checks=checks)
    found = store.flags()
    old = next((store.path / "flags").glob("response.empty*.arrow"))    # as earlier versions wrote it
    table = read_arrow(old)
    plain = [(k, pa.string()) for k in ("field", "message")]
    for name, kind in plain:
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    write_arrow(old, table)
    assert read_arrow(old).schema != FLAGS and store.flags().schema == FLAGS and store.flags().equals(found)
    store.import_rows(make_rows(GIVEN[1:2]).to_batches(), source="y", append=True)
    engine.check(store, engine.spec_of(store), checks=checks)
    assert [f["row"] for f in store.flags(["response.empty"]).to_pylist()] == [1, 4]
    assert store.flags().schema == FLAGS and store.flags(["response.placeholder"])["row"].to_pylist() == [3]


def test_severity_of_the_spec_reaches_the_flags(store: Store) -> None:
    engine.check(store, parse("checks:\n  response.empty: {severity: info}\n"), checks=["response.empty"])
    assert store.flags()["severity"].to_pylist() == ["info"]


@pytest.mark.parametrize(("own", "of_spec", "said"), [
    ([None, None], None, ["warning", "warning"]), (["info", None], None, ["info", "warning"]),
    (["info", "error"], None, ["info", "error"]), (["info", None], "error", ["error", "error"]), ([], None, [])])
def test_a_flag_has_its_own_severity_or_that_of_its_check_unless_the_spec_says_otherwise(
    own: list[str | None], of_spec: str | None, said: list[str]
) -> None:
    unit = CHECKS["response.mismatch"]
    found = flags(make_rows(GIVEN), {"at": range(len(own)), "message": [f"m{k}" for k in range(len(own))], "severity": own})
    table = engine._complete(found, unit, of_spec)
    assert table.schema == FLAGS and table["severity"].to_pylist() == said
    assert table["check"].to_pylist() == [unit.id] * len(own)


def test_what_slices_find_is_put_together(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BATCH", 1)
    monkeypatch.setattr(engine, "SMALL", 1)
    monkeypatch.setattr(engine, "IN_PROCESS", 1)
    engine.check(store, engine.spec_of(store), checks=["response.empty", "response.placeholder"], workers=2)
    store.import_rows(make_rows([*GIVEN, *GIVEN]).to_batches(), source="y")
    engine.check(store, engine.spec_of(store), checks=["response.empty", "response.placeholder"], workers=2)
    assert store.flags()["row"].to_pylist()
    for path in (store.path / "flags").glob("*.arrow"):
        assert read_arrow(path)["row"].num_chunks <= 1, path


def test_off_is_off(store: Store) -> None:
    done = engine.check(store, parse("checks:\n  response.empty: off\n"))
    assert "response.empty" not in done.flags


@pytest.mark.parametrize("alone_from", [0, 10**9])
def test_workers_change_nothing(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, alone_from: int) -> None:
    alone = Store.create(tmp_path / "alone")
    alone.import_rows(make_rows(GIVEN * 3).to_batches(), source="x")
    spread = Store.create(tmp_path / "spread")
    spread.import_rows(make_rows(GIVEN * 3).to_batches(), source="x")
    engine.check(alone, engine.spec_of(alone), workers=1)
    monkeypatch.setattr(engine, "IN_PROCESS", 0)
    monkeypatch.setattr(engine, "BATCH", 5)
    monkeypatch.setattr(engine, "ALONE", alone_from)    # two workers; one and the main process
    engine.check(spread, parse("name: alone"), workers=2)
    for more in (False, True):
        if more:  # rows behind, one changed and one gone
            changed = [*GIVEN[1:] * 3, {**GIVEN[0], "response": "Something else."}, *GIVEN]
            for store_, workers in ((alone, 1), (spread, 2)):
                store_.import_rows(make_rows(changed).to_batches(), source="y")
                engine.check(store_, parse("name: alone"), workers=workers)
        assert alone.flags().to_pylist() == spread.flags().to_pylist()
        a, b = alone.signals(), spread.signals()
        assert a is not None and b is not None and a.to_pylist() == b.to_pylist()


@pytest.mark.parametrize(("served", "started"), [(False, 0), (True, 1)])
def test_workers_that_are_at_hand_take_fewer_rows(
    store: Store, monkeypatch: pytest.MonkeyPatch, served: bool, started: int
) -> None:
    """A server of workers that an earlier check of this program has left makes them worth their start for fewer rows."""
    plain, teams = engine._Workers.start, set()

    def start(pool: engine._Workers, n: int) -> Team:
        teams.add(plain(pool, n))
        return plain(pool, n)

    monkeypatch.setattr(engine._Workers, "start", start)
    monkeypatch.setattr(engine, "served", lambda: served)
    monkeypatch.setattr(engine, "SMALL", store.rows().num_rows - 1)
    engine.check(store, engine.spec_of(store), checks=["response.empty"], workers=2)
    assert len(teams) == started


def test_set_wide_checks_run_while_workers_look_at_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "IN_PROCESS", 0)
    plain, order = engine._Workers.start, []

    def start(pool: engine._Workers, n: int) -> Team:
        if pool.pool is None:
            plain(pool, n).submit(time.sleep, 1)      # before anything is found
        return plain(pool, n)

    monkeypatch.setattr(engine._Workers, "start", start)
    engine.check(store, engine.spec_of(store), workers=2, progress=lambda id, *_: order.append(id))
    first = {id: order.index(id) for id in set(order)}
    assert first["dup.exact"] < first["edge"], "it waits for no signal"
    assert max(first["refusal"], first["harm"]) < first["refusal.policy_conflict"], "it asks for these signals"


def test_in_memory_equals_on_disk(store: Store) -> None:
    spec = engine.spec_of(store)
    engine.check(store, spec)
    flags, signals = engine.run_table(store.rows(), spec)
    key = [("row", "ascending"), ("check", "ascending")]
    assert pa.table(flags.to_pydict()).sort_by(key).to_pylist() == pa.table(store.flags().to_pydict()).sort_by(key).to_pylist()
    assert set(signals.column_names) == set(store.signals().column_names)  # type: ignore[union-attr]


def test_an_interrupt_keeps_what_was_finished(store: Store) -> None:
    spec = engine.spec_of(store)
    engine.check(store, spec)
    before = store.flags().to_pylist()
    seen = []

    def stop(name: str, done: int, total: int) -> None:
        seen.append(name)
        if len(set(seen)) > 3:
            raise KeyboardInterrupt

    store.import_rows(make_rows(GIVEN + GIVEN[:1]).to_batches(), source="y")
    with pytest.raises(KeyboardInterrupt):
        engine.check(store, spec, progress=stop)
    assert store.flags().num_rows == 0, "flags of the version before must not pass for those of the new one"
    again = engine.check(store, spec)
    assert len(again.cached) >= 2 and before


@pytest.mark.parametrize("last", [False, True])
def test_an_interrupt_that_was_swallowed_in_a_unit_ends_the_check_after_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, hearing: None, last: bool
) -> None:
    plain, ran = engine._Workers.run, []
    units = len(engine.plan(engine.choose(engine.spec_of(store), ["response.empty"])))

    def run(pool: engine._Workers, unit: Any, *given: Any) -> pa.Table:
        ran.append(unit.id)
        if len(ran) == (units if last else 1):
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)
            except KeyboardInterrupt:
                pass    # as Python does in a callback from C
        return plain(pool, unit, *given)

    monkeypatch.setattr(engine._Workers, "run", run)
    with pytest.raises(KeyboardInterrupt):
        engine.check(store, engine.spec_of(store), checks=["response.empty"], workers=1)
    assert len(ran) == (units if last else 1) and store.current() is None
    done = engine.check(store, engine.spec_of(store), checks=["response.empty"], workers=1)
    assert set(done.cached) == set(ran[: len(done.cached)]) and len(done.cached) == (units if last else 1)


def test_unknown_check_names_the_nearest(store: Store) -> None:
    with pytest.raises(CurationError, match=r"'dup\.nera' is not a check; did you mean 'dup\.near'"):
        engine.check(store, engine.spec_of(store), checks=["dup.nera"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dup.near", "expected check.option=value"),
        ("dup.nera.threshold=1", "not a check"),
    ],
)
def test_bad_overrides_are_explained(text: str, says: str) -> None:
    with pytest.raises(CurationError, match=says):
        engine.overrides_of([text])


def test_unknown_option_is_explained(store: Store) -> None:
    with pytest.raises(CurationError, match="is not an option") as e:
        engine.check(store, engine.spec_of(store), overrides=engine.overrides_of(["dup.near.treshold=0.5"]))
    assert "threshold" in e.value.hint


@pytest.mark.parametrize("id", sorted(CHECKS))
def test_every_check_explains_itself_and_survives_one_row_and_none(id: str) -> None:
    unit = CHECKS[id]
    assert unit.doc and "Why" in unit.doc, f"{id} does not say why"
    assert all(x in unit.doc for x in ("Misses", "False positives")), f"{id} does not say what it gets wrong"
    if id == "privacy.presidio" and not installed():
        pytest.skip("the extra presidio (about 200 MB) is not installed")
    spec = parse("name: x")
    for given in ([], [{"instruction": "", "response": ""}], [{"instruction": "a\u2028b", "response": "\x00\ud7ff"}]):
        flags, _ = engine.run_table(make_rows(given), spec, checks=[id])
        assert flags.schema == FLAGS


def test_a_script_needs_no_guard_and_may_bring_checks_of_its_own(store: Store, tmp_path: Path) -> None:
    declared = """
from curation.checks.base import check as declare, flags

@declare("own.{name}", reads=("response",))
def own(rows):
    "The response is there."
    return flags(rows, {{"at": range(rows.num_rows), "message": "seen"}})
"""
    (tmp_path / "owned.py").write_text(declared.format(name="module"))
    script = tmp_path / "script.py"
    script.write_text(f"""
import os, sys
print("begun", flush=True)
from curation import Store, check, engine, spec_of
import owned
{declared.format(name="script")}
engine.IN_PROCESS = engine.SMALL = 0
store = Store({str(store.path)!r})
done = check(store, spec_of(store), checks=["own.module", "own.script", "response.empty"], workers=2)
print(done.flags)
""")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    n = store.rows().num_rows
    assert done.returncode == 0, done.stderr
    begun, found = done.stdout.splitlines()
    assert begun == "begun" and f"'own.module': {n}" in found and f"'own.script': {n}" in found


def test_checks_of_an_installed_package_are_there_for_the_commands_and_missed_by_name(store: Store, tmp_path: Path) -> None:
    (tmp_path / "owned.py").write_text("""
from curation.checks.base import check, flags

@check("own.seen", reads=("response",))
def own(rows):
    "The response is there."
    return flags(rows, {"at": range(rows.num_rows), "message": "seen"})
""")
    about = tmp_path / "owned-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: owned\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[curation.checks]\nowned = owned\n")

    def curation(*given: str, path: str = str(tmp_path)) -> subprocess.CompletedProcess[str]:
        here = f"{path}{os.pathsep}{Path(engine.__file__).parents[1]}"
        return subprocess.run([sys.executable, "-m", "curation.cli", *given], capture_output=True, text=True, check=False,
                              env={**os.environ, "PYTHONPATH": here})

    done = curation("check", str(store.path), "--checks", "own.seen,response.empty")
    assert done.returncode == 0 and "own.seen" in done.stdout, done.stderr
    assert "The response is there." in curation("checks", "own.seen").stdout
    without = curation("gate", str(store.path), path="")
    assert without.returncode == 2 and "flags of 'own.seen', a check that is not declared here" in without.stderr
    (about / "entry_points.txt").write_text("[curation.checks]\nowned = lost\n")
    broken = curation("checks")
    assert broken.returncode == 2 and "the checks of owned (lost) cannot be imported" in broken.stderr


def test_embedding_shows_its_progress(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    class Vectors:
        def __init__(self, folder: Path | None) -> None:
            self.progress = lambda done, total: None

        def of(self, uids: list[str], texts: list[str], model: str = "") -> np.ndarray:
            self.progress(1, len(texts))
            self.progress(len(texts), len(texts))
            return np.eye(len(texts), 64, dtype=np.float32)

    monkeypatch.setattr(engine, "Vectors", Vectors)
    seen: list[tuple[str, int, int]] = []
    engine.check(store, engine.spec_of(store), checks=["dup.semantic"], progress=lambda *step: seen.append(step))
    embedded = [step for step in seen if step[0] == "dup.semantic: embed"]
    assert embedded and embedded[0][1] == 1 and embedded[-1][1] == embedded[-1][2]


def test_the_key_of_a_result_covers_what_its_check_is_built_on() -> None:
    """A mended classifier is as good a reason to run a check again as a mended check."""
    path = Path(str(sys.modules[inspect.unwrap(CHECKS["refusal.over"].run).__module__].__file__))
    stems = {source.stem for source in engine._sources(path)}
    assert {"refusals", "base", "refusal", "heads", "harm", "text", "model"} <= stems
    assert not stems & {"engine", "store", "gate", "cli"}
    near = engine._sources(Path(str(sys.modules[inspect.unwrap(CHECKS["dup.near"].run).__module__].__file__)))
    assert {"sketch", "kernels", "shingles", "wording"} <= {source.stem for source in near}
    assert engine._code(CHECKS["dup.near"]) != engine._code(CHECKS["refusal.over"])
