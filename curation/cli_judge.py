"""The verb `judge`: what a classifier of yours or a model behind an address says of the rows, kept as a signal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .cli import _numbers, _say, as_json, folder, progress, table
from .errors import CurationError


@click.command()
@folder
@click.option("--question", help='What to judge, answered from 0 (no) to 1 (yes): "Is every statement in the response true?"')
@click.option("--endpoint", metavar="URL", help="An OpenAI-compatible address, such as http://127.0.0.1:8000/v1.")
@click.option("--model", metavar="NAME", help="The model at that address.")
@click.option("--local", metavar="MODULE:FUNCTION", help="A function of yours: (question, rows) -> a score in [0, 1] a row.")
@click.option("--key-env", default="OPENAI_API_KEY", show_default=True, help="Environment variable that holds the key.")
@click.option("--check", "check_id", help="Only rows with a flag of this check.")
@click.option("--rows", "numbers", help="Only these row numbers, comma-separated.")
@click.option("--price-in", default=0.0, type=click.FloatRange(0), help="Price of a million tokens asked, for the estimate.")
@click.option("--price-out", default=0.0, type=click.FloatRange(0), help="Price of a million tokens answered.")
@click.option("--again", is_flag=True, help="Ask once more where an earlier answer gave no score.")
@click.option("--yes", is_flag=True, help="Ask. Without it only the estimate is printed.")
@as_json
def judge(
    folder: Path, question: str | None, check_id: str | None, numbers: str | None, yes: bool, json_: bool, **given: Any
) -> None:
    """Have rows judged: the scores become the signal judge, with the judge's name beside each. Off unless asked for."""
    from . import engine
    from . import judge as desk
    from .store import Store

    store = Store(folder)
    if question is None:
        known = desk.journals(store)
        lines = [(j["answers"], j["scores"], j["by"], j["question"]) for j in known]
        none = "no judge has been asked; --question with --endpoint and --model, or with --local, asks one"
        _say(json_, known, table(lines, ("answers", "scores", "judge", "question")) if known else none)
        return
    rows = None
    if check_id is not None:
        engine.choose(engine.spec_of(store), [check_id])
        rows = sorted(set(store.flags([check_id])["row"].to_pylist()))
    if numbers is not None:
        rows = sorted(set(_numbers(numbers)))
        n = store.rows().num_rows
        if rows[0] < 0 or rows[-1] >= n:
            raise CurationError(f"--rows {numbers}: rows go from 0 to {n - 1}", "curation show FOLDER lists rows")
    who = desk.judge_for(given["endpoint"], given["model"], given["local"], given["key_env"])
    run = desk.Run(store, who, question, rows, again=given["again"])
    plan = run.estimate()
    cost = plan.cost(given["price_in"], given["price_out"])
    told = f"{plan.rows:,} rows, {plan.known:,} answered before; {plan.asked:,} questions to {who.name}"
    if given["endpoint"] is not None:
        told += (f": about {plan.tokens_in:,} tokens in and {plan.tokens_out:,} out"
                 + (f", {cost:,.2f} at these prices" if cost else ""))
    if not yes:
        _say(json_, {**vars(plan), "cost": cost, "by": run.by}, f"{told}\nnothing was asked; --yes asks")
        return
    if not json_:
        click.echo(told)
    with progress() as step:
        done = run.go(step)
    _say(json_, {**vars(done), "cost": cost},
         f"{done.asked:,} asked; {done.rows - done.unreadable:,} of {done.rows:,} rows have a score, mean {done.mean or 0:.3f}"
         + (f"; {done.unreadable:,} have none (--again asks once more)" if done.unreadable else "")
         + f"\nsignal judge by {done.by}; answers with reasons in {done.journal}")
