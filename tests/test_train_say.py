"""What a run says: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io
from typing import Any

import pytest
from curation.train import say
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


def step(n: int, **more: Any) -> dict[str, Any]:
    numbers = {"loss": 1.5, "lr": 1e-3, "tokens_per_s": 4567, "seconds": 2.0 * n}
    return {"event": "step", "run": "r[0]", "step": n, "steps": 400, **numbers, **more}


def test_a_line_tells_speed_and_time_left() -> None:
    line = say.step_line(step(100, mfu=0.456, held_out_loss=1.25))
    assert "step    100/400" in line and "4,567 tok/s" in line and "left   600 s" in line
    assert "MFU 0.46" in line and "held-out 1.2500" in line


def test_without_a_terminal_lines_come_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with say.speaker() as speak:
        speak({"event": "settings", "run": "runs/r0", "settings": {"lr": (2e-5, "usual"), "flops_per_token": (5453410.12, "x")}})
        for n in range(10, 401, 10):
            speak(step(n))
        speak({"event": "memory", "parts": 2})
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "run runs/r0" and "5.45e+06" in told[2]
    assert [line.split()[1] for line in told if line.startswith("step")] == [f"{n}/400" for n in range(50, 401, 50)]
    assert told[-1].startswith("memory ran out")


def test_on_a_terminal_a_bar_moves_and_names_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=140)
    columns = (TextColumn("{task.fields[run]}"), BarColumn(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        speak = say._bar(progress)
        speak({"event": "uncompiled", "why": "no [bold] compiler"})
        speak(step(100))
        speak(step(400))
        assert [(task.completed, task.total) for task in progress.tasks] == [(400, 400)]
    assert "no [bold] compiler" in out.getvalue() and "r[0]" in out.getvalue() and "4,567 tok/s" in out.getvalue()
    assert out.getvalue().endswith("\x1b[?25h"), "the cursor is shown again"
