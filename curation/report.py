"""The report: one self-contained HTML page and the same as JSON."""

from __future__ import annotations

import html
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from .checks import CHECKS
from .checks.base import first_line
from .gate import Effective, GateResult, effective, evaluate
from .review import progress
from .spec import Spec
from .store import Store, atomic, write_json

AROUND = 160  # characters shown on each side of a span
SHOWN = 5  # findings shown a check

CANNOT = (
    "These checks read form, not truth. A wrong answer in good form, a fact invented for a document nobody attached, "
    "or a mediocre explanation passes all of them; in a random draw of a public instruction set most flawed rows were "
    "of that kind. Read a random queue (curation review FOLDER --queue random) before you trust a passed gate."
)

STYLE = """
:root{color-scheme:light dark;--line:#8885;--bad:#b3261e;--good:#1b6e3c;--warn:#8a5a00}
body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid var(--line);padding:.3rem .6rem;text-align:left;
vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}
pre{white-space:pre-wrap;overflow-wrap:anywhere;border-left:3px solid var(--line);padding:.2rem .7rem;margin:.3rem 0}
mark{background:#ffd54a;color:#000}.bad{color:var(--bad)}.good{color:var(--good)}.small{opacity:.75;font-size:.9em}
@media(prefers-color-scheme:dark){:root{--bad:#ff8a80;--good:#7bd99a;--warn:#ffcf70}}
"""


def write(store: Store, spec: Spec, folder: Path) -> dict[str, str]:
    """Write report.html and report.json into `folder` and return their paths."""
    state = effective(store, spec)
    result = evaluate(store, spec, state)
    value = build(store, state, result, spec)
    write_json(folder / "report.json", value)
    with atomic(folder / "report.html", "w") as f:
        f.write(page(value))
    return {"html": str(folder / "report.html"), "json": str(folder / "report.json")}


def build(store: Store, state: Effective, result: GateResult, spec: Spec) -> dict[str, Any]:
    """Return the report as plain values."""
    current = store.current() or {"options": {}}
    by_check: dict[str, list[dict[str, Any]]] = defaultdict(list)
    found_in, rows = store.flags(), store.rows()  # as found, before any repair; `state` says what is still open
    for flag in found_in.to_pylist():
        by_check[flag["check"]].append(flag)
    checks = []
    for id in sorted(by_check, key=lambda c: -len(by_check[c])):
        found = sorted(by_check[id], key=lambda f: (-f["score"], f["row"]))
        spread = found[:: max(1, len(found) // SHOWN)][:SHOWN]
        checks.append(
            {
                "check": id,
                "what": first_line(CHECKS[id]),
                "flags": len(found),
                "rows": len({f["row"] for f in found}),
                "options": current["options"].get(id, {}),
                "findings": [_finding(rows, f) for f in spread],
            }
        )
    quiet = sorted(set(current.get("flags", {})) - set(by_check))
    return {
        "name": spec.name,
        "sentence": result.sentence,
        "gate": result.as_dict(),
        "checks": checks,
        "quiet": quiet,
        "review": progress(store, state),
        "rows_hash": store.rows_hash(),
        "spec_hash": spec.hash,
        "cannot_see": CANNOT,
    }


def _finding(rows: pa.Table, flag: dict[str, Any]) -> dict[str, Any]:
    """Return a flag with the text around its span: before, marked, after."""
    field = flag["field"] if flag["field"] != "row" else "response"
    text = rows[field][flag["row"]].as_py() or ""
    start, end = flag["start"], flag["end"]
    if start is None or end is None:
        start = end = 0
    low, high = max(0, start - AROUND), min(len(text), end + AROUND)
    return {
        "row": flag["row"],
        "field": field,
        "severity": flag["severity"],
        "score": round(flag["score"], 3),
        "message": flag["message"],
        "related": flag["related"][:10],
        "fix": flag["fix"],
        "prompt": (rows["instruction"][flag["row"]].as_py() or "")[:AROUND],
        "before": ("…" if low else "") + text[low:start],
        "marked": text[start:end][:2000],
        "after": text[end:high] + ("…" if high < len(text) else ""),
    }


def page(value: dict[str, Any]) -> str:
    """Return the HTML of a report. Every text of the data is escaped."""
    e = html.escape
    gate = value["gate"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{e(value['name'])}: curation report</title><style>{STYLE}</style>",
        f"<h1>{e(value['name'])}</h1>",
        f"<p class={'good' if gate['passed'] else 'bad'}><b>{e(value['sentence'])}</b></p>",
    ]
    if gate["reasons"]:
        parts.append("<ul>" + "".join(f"<li>{e(r)}" for r in gate["reasons"]) + "</ul>")
    parts.append("<h2>Checks</h2><table><tr><th>check<th>what it finds<th>rows<th>open<th>left out")
    parts += [
        f"<tr><td><a href='#{e(c['check'])}'>{e(c['check'])}</a><td>{e(c['what'])}<td class=n>{c['rows']:,}"
        f"<td class=n>{gate['open_flags'].get(c['check'], 0):,}<td class=n>{gate['rejected'].get(c['check'], 0):,}"
        for c in value["checks"]
    ]
    parts.append("</table>")
    if value["quiet"]:
        parts.append(f"<p class=small>Nothing found by {e(', '.join(value['quiet']))}.</p>")
    if gate["coverage"]:
        parts.append("<h2>Coverage</h2><table><tr><th>what<th>rows<th>wanted<th>")
        parts += [
            f"<tr><td>{e(c['kind'])} {e(c['id'])}<td class=n>{c['have']:,}<td>{_wanted(c)}"
            f"<td class={'good' if c['met'] else 'bad'}>{'met' if c['met'] else 'not met'}"
            for c in gate["coverage"]
        ]
        parts.append("</table>")
    parts.append("<h2>Findings</h2>")
    for c in value["checks"]:
        parts.append(f"<h3 id='{e(c['check'])}'>{e(c['check'])} <span class=small>{c['flags']:,} flags</span></h3>")
        parts += [_finding_html(f) for f in c["findings"]]
    review = value["review"]
    parts.append(
        f"<h2>Review</h2><p>{review['by_person']:,} rows decided by persons, {review['by_policy']:,} by policy, "
        f"{review['open']:,} flagged rows open.</p><h2>What this cannot see</h2><p>{e(value['cannot_see'])}</p>"
        f"<p class=small>rows {e(value['rows_hash'])}, spec {e(value['spec_hash'])}</p></html>\n"
    )
    return "\n".join(parts)


def _wanted(line: dict[str, Any]) -> str:
    low = "" if line["least"] is None else f"at least {line['least']:,}"
    high = "" if line["most"] is None else f"at most {line['most']:,}"
    return ", ".join(x for x in (low, high) if x) or "–"


def _finding_html(f: dict[str, Any]) -> str:
    e = html.escape
    fix = f"<pre>fix: {e(f['fix'][:400])}</pre>" if f["fix"] is not None else ""
    return (
        f"<p><b>row {f['row']:,}</b> {e(f['severity'])} ({f['score']:.2f}): {e(f['message'])}<br>"
        f"<span class=small>{e(f['prompt'])}</span></p>"
        f"<pre>{e(f['before'])}<mark>{e(f['marked'])}</mark>{e(f['after'])}</pre>{fix}"
    )
