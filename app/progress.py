"""The panel that starts a job, shows how far it is, and lets one stop it; a reload finds it again by its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from curation.engine import cache_key, choose, plan, resolve, spec_of
from curation.store import Store

from . import jobs


def checks_done(folder: Path) -> tuple[int, int, str]:
    """Return (checks and signals whose result is there, all of them, the one that runs now) for the newest rows."""
    store = Store(folder)
    spec = spec_of(store)
    rows_hash = store.rows_hash()
    keys: dict[str, str] = {}
    done, now = 0, ""
    units = plan(choose(spec))
    for unit in units:
        keys[unit.id] = cache_key(unit, resolve(unit, spec, {}), rows_hash, spec, keys, folder)
        there = (folder / ("signals" if unit.gives else "flags") / f"{keys[unit.id]}.arrow").exists()
        done += there
        now = now or ("" if there else unit.id)
    return done, len(units), now


def offer(folder: Path, argv: Sequence[str], label: str, *, key: str, main: bool = True, wait: bool = False) -> None:
    """Show the command, a button that starts it, and the job of that verb once there is one.

    `main`: it is what the page wants one to do; `wait`: something else has to end first.
    """
    st.code(jobs.command(argv), language=None, wrap_lines=True)
    job = jobs.newest(folder, argv[0])
    running = job is not None and job.state == "running"
    if st.button(label, key=key, type="primary" if main else "secondary", disabled=running or wait, icon=":material/play_arrow:"):
        jobs.start(folder, argv)
        st.rerun()
    if job is not None:
        _watch(folder, argv[0], key, run_every="1s" if running else None)


def _bar(folder: Path, job: jobs.Job) -> None:
    """Draw how far a running job is, as far as it says so."""
    name, part, whole = job.progress()
    if job.verb == "check":
        done, total, now = checks_done(folder)
        st.progress(done / total if total else 0.0,
                    text=f"{done} of {total} checks and signals; now: {now or 'joining the results'}")
    elif whole:
        st.progress(min(1.0, part / whole), text=f"{name}: {part / whole:.0%}, since {job.since}")
    else:
        st.progress(0.0, text=f"{name or job.verb}: {part:,}, since {job.since}" if part else f"running since {job.since}")


def _watch(folder: Path, verb: str, key: str, *, run_every: str | None) -> None:
    """Show the newest job of a verb; the fragment asks again every second only while the job runs."""

    @st.fragment(run_every=run_every)
    def panel() -> None:
        job = jobs.newest(folder, verb)
        if job is None:
            return
        if job.state == "running":
            _bar(folder, job)
            if st.button("Stop", key=f"{key}-stop", icon=":material/stop:"):
                jobs.stop(job)
        else:
            words = {"done": "is done", "failed": f"failed with exit status {job.code}", "stopped": "was stopped",
                     "lost": "ended without a word (the machine or the process was stopped)"}
            st.caption(f"The last run, {job.since}, {words[job.state]}.")
        if job.state != "done" and (tail := job.tail()):
            st.code("\n".join(tail.splitlines()[-12:]), language=None, wrap_lines=True)
        if run_every and job.state != "running":
            st.rerun()      # the whole page, once: there is something new to read

    panel()
