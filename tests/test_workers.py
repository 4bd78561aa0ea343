"""Worker processes: there soon, in the program's environment, without the program, and gone with it."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import psutil
import pytest

from curation import workers
from curation.workers import Team

linux = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked from a server on Linux only")


#: What workers of these tests run. They import it, and by its name they can: a test is not of a module that is found by name.
TASKS = """
import os, sys

def told(marks):
    os.environ.update(marks)

def seen(*names):
    return {"pid": os.getpid(), "parent": os.getppid(), "main": getattr(sys.modules["__main__"], "__file__", None),
            "modules": [m for m in ("curation.engine", "scipy.sparse", "detect_secrets") if m in sys.modules],
            **{n: os.environ.get(n) for n in names}}
"""


@pytest.fixture(autouse=True)
def tasks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "tasks_of_workers.py").write_text(TASKS)
    monkeypatch.syspath_prepend(folder)
    yield importlib.import_module("tasks_of_workers")
    del sys.modules["tasks_of_workers"]


@pytest.fixture
def team(tasks: Any) -> Iterator[Team]:
    one = Team(2, tasks.told, ({"BEGUN": "yes"},))
    yield one
    one.leave()


def test_workers_begin_as_told_in_the_environment_of_now(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("1", "2"):    # the server, which stays, was started in the first
        monkeypatch.setenv("OF_NOW", value)
        team = Team(1, tasks.told, ({"BEGUN": "yes"},))
        found = team.submit(tasks.seen, "OF_NOW", "BEGUN", "PATH").result(60)
        assert (found["OF_NOW"], found["BEGUN"], found["PATH"]) == (value, "yes", os.environ["PATH"])
        assert team.pids == [found["pid"]]
        team.end()
    assert "BEGUN" not in os.environ


@linux
def test_workers_of_later_teams_are_forked_from_the_same_server_with_all_imported(tasks: Any) -> None:
    parents = set()
    for _ in range(2):
        team = Team(2, tasks.told, ({},))
        for found in [t.result(60) for t in [team.submit(tasks.seen) for _ in range(8)]]:
            parents.add(found["parent"])
            assert found["modules"] == ["curation.engine", "scipy.sparse", "detect_secrets"] and found["main"] is None
        team.end()
    assert len(parents) == 1 and os.getpid() not in parents


def test_the_program_keeps_its_module(team: Team, tasks: Any) -> None:
    team.submit(tasks.seen).result(60)    # while workers start, the stand-in is there
    main = sys.modules["__main__"]
    with workers._no_program():
        assert sys.modules["__main__"] is not main and not hasattr(sys.modules["__main__"], "__file__")
        assert sys.modules["__main__"].__name__ == "__main__"
    assert sys.modules["__main__"] is main


def test_what_the_program_puts_there_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    main = sys.modules["__main__"]
    other = type(main)("__main__")
    with workers._no_program():
        monkeypatch.setitem(sys.modules, "__main__", other)
    assert sys.modules["__main__"] is other
    sys.modules["__main__"] = main


def test_ended_workers_are_gone(team: Team, tasks: Any) -> None:
    for nap in [team.submit(time.sleep, 0.3) for _ in range(4)]:
        nap.result(60)
    pids = team.pids
    assert team.submit(tasks.seen).result(60)["pid"] in pids and len(pids) == 2
    team.end()
    assert not [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != "zombie"]


def test_tasks_that_no_worker_has_begun_are_taken_back(team: Team, tasks: Any) -> None:
    team.submit(tasks.seen).result(60)
    given = [team.submit(time.sleep, 0.2) for _ in range(40)]
    assert given[-1].cancel() and given[-1].cancelled()
    team.leave()
    assert sum(t.cancelled() for t in given) >= 30
    for process in [psutil.Process(p) for p in team.pids if psutil.pid_exists(p)]:
        process.wait(30)


def test_what_a_task_raises_and_a_lost_worker_are_told(team: Team) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        team.submit(os.stat, "nowhere").result(60)
    with pytest.raises(BrokenProcessPool):
        team.submit(os._exit, 3).result(60)


def test_nothing_is_left_of_a_killed_program() -> None:
    code = """
import json, os, time
import psutil
from curation.workers import Team
team = Team(2, os.getpid, ())
for nap in [team.submit(time.sleep, 0.3) for _ in range(4)]:
    nap.result()
print(json.dumps([p.pid for p in psutil.Process().children(recursive=True)]), flush=True)
team.submit(time.sleep, 600)
time.sleep(600)
"""
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    pids = json.loads(program.stdout.readline())
    assert len(pids) >= (4 if sys.platform == "linux" else 3), "two workers, the tracker and their server"
    program.kill()
    program.wait()
    _, alive = psutil.wait_procs([psutil.Process(p) for p in pids if psutil.pid_exists(p)], timeout=5)
    left = [p for p in alive if p.status() != "zombie"]
    for process in left:
        process.kill()
    assert not left, left


def test_a_program_ends_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    code = """
import json, os
import psutil
from curation.workers import Team
team = Team(1, os.getpid, ())
team.submit(os.getpid).result()
print(json.dumps([p.pid for p in psutil.Process().children(recursive=True)]), flush=True)
team.end()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    gone, alive = psutil.wait_procs([psutil.Process(p) for p in json.loads(done.stdout) if psutil.pid_exists(p)], timeout=5)
    assert not [p for p in alive if p.status() != "zombie"], (gone, alive)


def test_an_interrupt_while_workers_start_is_the_programs_alone() -> None:
    code = """
import os, time
from curation.workers import Team
try:
    team = Team(1, os.getpid, ())
    print("begun", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    team.leave()
    print("stopped")
"""
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert program.stdout is not None and program.stdout.readline() == "begun\n"
    time.sleep(0.4)     # the server imports what workers need
    os.killpg(program.pid, signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert (program.returncode, out, err) == (0, "stopped\n", "")


@linux
def test_workers_that_cannot_start_say_so(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit(3)")
    code = """
import os
from curation import workers
from curation.errors import CurationError
workers.READY = "broken"
team = workers.Team(1, os.getpid, ())
try:
    team.submit(os.getpid).result()
except CurationError as e:
    print(e.args[0].split(":")[0], "|", e.hint)
team.leave()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(workers.__file__).parents[1]}"})
    assert done.stdout == "a worker process could not be started | --workers 1 does without\n", done.stderr


def test_an_interrupt_that_a_callback_swallows_is_known_afterwards(
    hearing: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)      # not pytest's

    def call_from_c(work: Callable[[], Any]) -> None:
        ctypes.CFUNCTYPE(None)(lambda: work() and None)()

    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    with workers.interrupts() as seen:
        assert not seen
        began = time.monotonic()
        call_from_c(interrupted)
        assert seen == [signal.SIGINT] and time.monotonic() - began < 4
        assert not capfd.readouterr().err, "the check tells of it"
        call_from_c(lambda: 1 / 0)
        assert "ZeroDivisionError" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and sys.unraisablehook is sys.__unraisablehook__
