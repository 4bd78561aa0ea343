"""Long work as processes of the CLI: start, watch, stop, attach again. One folder a job: FOLDER/jobs/<id>/."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curation.cli import PROGRESS

TAIL = 16_384           # bytes of a log that a page reads


@dataclass(frozen=True)
class Job:
    """A job as its folder tells it. `state` is running, done, failed, stopped or lost."""

    path: Path
    argv: tuple[str, ...]       # after `curation`
    started: str                # UTC, ISO 8601
    state: str
    code: int | None            # exit status, None while it runs or when the process was killed

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def verb(self) -> str:
        return self.argv[0]

    @property
    def since(self) -> str:
        """When it was started, to the minute."""
        return f"{self.started[:10]} {self.started[11:16]} UTC"

    def progress(self) -> tuple[str, int, int]:
        """Return (what it works on, how much of it is done, of how much) as the verb last said; ("", 0, 0) before it did."""
        path = self.path / "progress"
        if not path.exists():
            return "", 0, 0
        said = json.loads(path.read_text(encoding="utf-8"))
        return str(said["name"]), int(said["done"]), int(said["total"])

    def tail(self) -> str:
        """Return the end of the log: the last line of each progress bar, no control characters."""
        path = self.path / "log"
        if not path.exists():
            return ""
        with path.open("rb") as f:
            f.seek(max(0, path.stat().st_size - TAIL))
            text = f.read().decode("utf-8", "replace")
        lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
        return "\n".join("".join(c for c in line if c.isprintable() or c == "\t") for line in lines).strip()


def start(folder: Path, argv: Sequence[str]) -> Job:
    """Start `curation ARGV...` in a process group of its own and return the job; a running one of that verb is returned."""
    for job in listed(folder):
        if job.verb == argv[0] and job.state == "running":
            return job
    path = _new(folder / "jobs", argv[0])
    (path / "cmd").write_text(json.dumps({
        "argv": list(argv), "started": datetime.now(UTC).isoformat(timespec="seconds")}), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "curation.app.jobs", str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True)
    _children[path] = process
    deadline = time.monotonic() + 10
    while not (path / "pid").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return read(path)


_children: dict[Path, subprocess.Popen[bytes]] = {}     # started here: asked after now and then, so none stays a zombie


def _new(parent: Path, verb: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(p.name.split("-")[0]) for p in parent.iterdir() if p.name.split("-")[0].isdigit()), default=0)
    while True:
        path = parent / f"{number:04d}-{verb}"
        try:
            path.mkdir()
            return path
        except FileExistsError:
            number += 1


def read(path: Path) -> Job:
    """Return the job in a folder. A job is running as long as its supervisor holds the lock of the folder."""
    if path in _children and _children[path].poll() is not None:
        del _children[path]
    about = json.loads((path / "cmd").read_text(encoding="utf-8"))
    running = _locked(path / "lock")
    ended = _ended(path)        # read after the lock: the supervisor writes it before it lets the lock go
    code = ended.get("code")
    state = ("running" if running or path in _children else "lost") if not ended else ended["state"]
    return Job(path, tuple(about["argv"]), about["started"], state, code)


def _ended(path: Path) -> dict[str, Any]:
    file = path / "state"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _locked(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def listed(folder: Path) -> list[Job]:
    """Return the jobs of a dataset folder, newest first."""
    if not (folder / "jobs").is_dir():
        return []
    return [read(p) for p in sorted((folder / "jobs").iterdir(), reverse=True) if (p / "cmd").exists()]


def newest(folder: Path, verb: str) -> Job | None:
    """Return the newest job of a verb, or None."""
    return next((job for job in listed(folder) if job.verb == verb), None)


def stop(job: Job) -> None:
    """Ask a running job's process group to end (SIGTERM); the CLI leaves a usable folder."""
    pid = job.path / "pid"
    if read(job.path).state == "running" and pid.exists():
        os.killpg(int(pid.read_text()), signal.SIGTERM)


def command(argv: Sequence[str]) -> str:
    """Return the command that a user would type for a job."""
    import shlex

    return shlex.join(["curation", *argv])


def supervise(path: Path) -> int:
    """Run the job in `path` to its end and leave its exit status there: the body of the process that `start` makes."""
    argv = json.loads((path / "cmd").read_text(encoding="utf-8"))["argv"]
    stopped: list[int] = []
    with (path / "lock").open("wb") as lock, (path / "log").open("ab") as log:
        fcntl.flock(lock, fcntl.LOCK_EX)
        signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
        (path / "pid").write_text(str(os.getpid()))
        process = subprocess.Popen([sys.executable, "-m", "curation.cli", *argv], stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=subprocess.STDOUT, env={**os.environ, PROGRESS: str(path / "progress")})
        code = process.wait()
        state = "stopped" if stopped else "done" if code == 0 else "failed"
        part = path / ".state.part"
        part.write_text(json.dumps({"state": state, "code": code}), encoding="utf-8")
        part.replace(path / "state")
    return code


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1])))
