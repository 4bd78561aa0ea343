"""How fast the workbench is on a million rows: pages on the server, keys and first paint in a real Chromium, memory.

    python benchmarks/ui.py --folder FOLDER [--rows 1000000] [--out benchmarks/results/ui.json]

The folder is made when it is not there (invented text, flags, signals, a spec, a verdict log in mid-review) and used again
when it is. Times are medians in milliseconds, each with its worst. Server: the function a page calls, and a whole rerun of
the Browse page's script by Streamlit's own test runner (no browser, no network). Browser: read inside the page with
performance.now(). First paint: a new tab on a server and a browser that have shown the page once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curation.model import FLAGS, MESSAGES, ROWS, SIGNALS
from curation.store import Entry, Store, write_arrow

BUDGETS = {"key_ms": 5, "page_ms": 60, "filter_ms": 250, "sort_ms": 250, "lasso_ms": 600, "paint_ms": 2000, "rss_mb": 1536}
FAMILIES = ("qa", "rewrite", "classify", "extract", "summarise", "code", "chat", "plan")
#: check -> (severity, share of the rows it flags, field, does it have a span, does it propose a repair)
FLAGGED = {
    "response.empty": ("error", 0.002, "response", False, False), "privacy.pii": ("error", 0.01, "response", True, False),
    "response.truncated": ("error", 0.02, "response", True, False), "dup.near": ("warning", 0.12, "row", False, False),
    "response.mojibake": ("warning", 0.03, "response", True, True),
    "response.loop": ("warning", 0.04, "response", True, False),
    "consistency.tone": ("info", 0.2, "instruction", False, False),
}
SPEC = """version: 1
name: a million rows
families:
""" + "".join(f"  - {{id: {f}, min_rows: {k * 40_000}}}\n" for k, f in enumerate(FAMILIES)) + """\
gate: {max_error_rate: 0.01, max_warning_rate: 0.2, min_rows: 1000, coverage: true}
"""
BATCH = 100_000
ENTRIES = 100_000       # rows of the verdict log: 90,000 by one policy run, the rest by persons, ten at a time
CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync")


# ---- the folder


def sentences(rng: np.random.Generator, n: int = 20_000) -> pa.Array:
    """Return `n` invented sentences of 6 to 16 words."""
    letters = np.array(list("etaoinshrdlucmfwypvbgk"))
    words = ["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(5000)]
    drawn = rng.zipf(1.3, (n, 16)) % len(words)
    return pa.array([" ".join(words[w] for w in line[:size]) + "." for line, size in zip(drawn, rng.integers(6, 17, n))])


def batches(n: int, rng: np.random.Generator) -> Iterator[pa.RecordBatch]:
    """Yield ROWS of about 430 characters: an instruction of one sentence, an answer of five."""
    pool = sentences(rng)
    for start in range(0, n, BATCH):
        k = min(BATCH, n - start)
        numbers = pa.array([str(i) for i in range(start, start + k)])
        drawn = [pool.take(pa.array(rng.integers(0, len(pool), k))) for _ in range(6)]
        prompt = pc.binary_join_element_wise(numbers, drawn[0], " ")
        answer = pc.binary_join_element_wise(*drawn[1:], " ")
        turns = pa.StructArray.from_arrays(
            [pa.array(np.tile(["user", "assistant"], k)), _woven(prompt, answer)], names=["role", "content"])
        messages = pa.ListArray.from_arrays(pa.array(np.arange(0, 2 * k + 1, 2, dtype=np.int32)), turns).cast(MESSAGES)
        none = pa.array([""] * k)
        columns = {
            "row": pa.array(np.arange(start, start + k)), "id": numbers, "messages": messages, "system": none,
            "uid": pa.array([xxhash.xxh3_128_hexdigest(str(i).encode()) for i in range(start, start + k)]),
            "instruction": prompt, "input": none, "response": answer, "meta": pa.array(["{}"] * k),
            "family": pa.array(np.array(FAMILIES)[rng.integers(0, len(FAMILIES), k)]),
            "source": pa.array(["invented"] * k), "split": pa.array(np.where(rng.random(k) < 0.95, "train", "validation"))}
        yield pa.RecordBatch.from_arrays([columns[f.name] for f in ROWS], names=ROWS.names)


def _woven(a: pa.Array, b: pa.Array) -> pa.Array:
    """Return a[0], b[0], a[1], b[1], ..."""
    order = np.arange(2 * len(a)).reshape(2, -1).T.ravel()
    return pa.concat_arrays([a, b]).take(pa.array(order))


def flags_of(store: Store, check: str, rng: np.random.Generator) -> pa.Table:
    severity, share, field, span, fix = FLAGGED[check]
    rows = store.rows()
    at = np.flatnonzero(rng.random(rows.num_rows) < share)
    k = len(at)
    start = rng.integers(0, 100, k).astype(np.int32)
    values = {
        "row": pa.array(at), "uid": rows["uid"].take(pa.array(at)), "score": pa.array(rng.random(k).astype(np.float32)),
        "turn": pa.array(np.full(k, -1, np.int16)), "field": pa.array([field] * k),
        "start": pa.array(start, mask=np.full(k, not span)), "end": pa.array(start + 30, mask=np.full(k, not span)),
        "message": pa.array([f"{check} finds something to look at here."] * k),
        "related": pa.array([[int(i) ^ 1] if check == "dup.near" else [] for i in at], pa.list_(pa.int64())),
        "fix": pc.utf8_slice_codeunits(rows["response"].take(pa.array(at)), 0, 400) if fix else pa.nulls(k, pa.string())}
    for name, value in (("check", check), ("severity", severity)):
        values[name] = pa.DictionaryArray.from_arrays(pa.array(np.zeros(k, np.int32)), pa.array([value]))
    return pa.table({f.name: values[f.name].cast(f.type) for f in FLAGS}, schema=FLAGS)


def signals_of(store: Store, rng: np.random.Generator) -> pa.Table:
    """Return every signal that a full check, `curation clusters` and `curation map` leave, for invented rows."""
    rows = store.rows()
    n = rows.num_rows
    cluster = rng.integers(0, 200, n)
    place = rng.normal(size=(200, 2)) * 0.4
    xy = np.clip(place[cluster] + rng.normal(size=(n, 2)) * 0.05, -1, 1)
    columns: dict[str, Any] = {
        "family": rows["family"].cast(pa.string()), "family_score": np.ones(n), "harm": rng.random(n) ** 8,
        "refusal": np.where(rng.random(n) < 0.03, "refuse", "comply"), "harm_category": np.full(n, ""),
        "n_words": pc.add(pc.count_substring(rows["response"], " "), 1),
        "n_chars": pc.add(pc.utf8_length(rows["response"]), pc.utf8_length(rows["instruction"])),
        "cluster": cluster, "map_x": xy[:, 0], "map_y": xy[:, 1], "needs_context": rng.random(n) ** 4}
    table = rows.select(["row", "uid"])
    for name, value in columns.items():
        value = pa.array(value) if isinstance(value, np.ndarray) else value
        table = table.append_column(name, value.cast(SIGNALS[name]))
    return table


def make_folder(path: Path, n: int) -> Store:
    """Make the folder, or open it when it has `n` rows."""
    if (path / "flags" / "current.json").exists():
        store = Store(path)
        assert store.rows().num_rows == n, f"{path} has {store.rows().num_rows:,} rows, not {n:,}"
        return store
    rng = np.random.default_rng(7)
    store = Store.create(path)
    store.import_rows(batches(n, rng), source="invented", detected=f"Alpaca, {n} rows")
    (path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    keys = {check: f"{check}@1-0000" for check in FLAGGED}
    for check, key in keys.items():
        write_arrow(store.flags_path(key), flags_of(store, check, rng))
    write_arrow(store.path / "signals" / "given@1-0000.arrow", signals_of(store, rng))
    uids = store.rows()["uid"].take(pa.array(rng.permutation(n)[: min(n, ENTRIES)])).to_pylist()
    policy = len(uids) * 9 // 10
    store.verdicts.append([Entry(u, "reject", "near-duplicate", check_id="dup.near") for u in uids[:policy]],
                          actor="policy:0", kind="policy", note="spec policy")
    for at in range(policy, len(uids), 10):
        word = "accept" if at % 20 else "reject"
        store.verdicts.append([Entry(u, word) for u in uids[at: at + 10]], actor="ann", note=f"{word} 10 rows")
    store.write_current({"rows_version": store.version, "rows_hash": store.rows_hash(), "spec_hash": "", "flags": keys,
                         "signals": {"given": "given@1-0000"}, "options": {}})
    return store


# ---- on the server


def took(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) * 1000


def summary(times: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(times), 1), "worst": round(max(times), 1), "n": len(times)}


def functions(folder: Path) -> dict[str, Any]:
    """Time what the pages call, each filter and order new to the cache."""
    from curation.app import state

    key = state.key_of(folder)
    assert key is not None
    out: dict[str, Any] = {"index_cold": round(took(lambda: state.index_of(key)))}
    out["verdicts_cold"] = round(took(lambda: state.verdicts_of(key)))
    out["gate_cold"] = round(took(lambda: state.gate_of(key)))
    index, verdicts = state.index_of(key), state.verdicts_of(key)
    F = state.Filter
    filters = [F(check=(c,)) for c in FLAGGED] + [F(family=(f,)) for f in FAMILIES[:4]] + [
        F(severity=("error",)), F(severity=("error", "warning"), family=("qa",)), F(state=("rejected",)),
        F(state=("undecided",), severity=("error",)), F(split=("validation",))]
    def ordered(wanted: state.Filter) -> float:
        return took(lambda: state.order_of(key, wanted))

    out["filter_ms"] = summary([ordered(f) for f in filters])
    out["sort_ms"] = summary([ordered(F(order=o)) for o in state.ORDERS])
    words = ("the", "zebra", "1234", "no such words at all", "it.")
    out["search_literal_ms"] = summary([ordered(F(text=w)) for w in words])
    out["search_regex_ms"] = summary([ordered(F(text=w, regex=True)) for w in (r"\d{6}", "^1.*z", "a+b")])
    order = state.order_of(key, F(order="worst flag first"))
    pages = np.random.default_rng(3).integers(1, state.pages_in(order) + 1, 40)
    out["page_ms"] = summary([took(lambda p=p: state.table_of(index, verdicts, state.page_of(order, int(p)))) for p in pages])
    return out


def opened(folder: Path, place: str) -> Any:
    """Return a page of the workbench in Streamlit's test runner, shown once."""
    os.environ["CURATION_FOLDER"], os.environ["CURATION_ACTOR"] = str(folder), "ann"
    from curation.app import state
    from streamlit.testing.v1 import AppTest

    at = AppTest.from_file(str(Path(state.__file__).with_name("main.py")), default_timeout=120)
    at.run()
    at._page_hash = next(h for h, about in at._registered_pages.items() if about.get("url_pathname") == place)
    at.run()
    assert not at.exception, at.exception
    return at


def reruns(folder: Path) -> dict[str, Any]:
    """Time whole reruns of the Browse page's script: a page turned, a filter set, an order chosen, a verdict."""
    from curation.app import state

    at = opened(folder, "browse")

    def timed(act: Callable[[], Any]) -> float:
        ms = took(act)
        assert not at.exception, at.exception
        return ms

    out: dict[str, Any] = {"page_ms": summary([timed(lambda p=p: at.pagination(key="page").set_value(p).run())
                                              for p in range(2, 22)])}
    checks, families = [], []
    for check in list(FLAGGED)[:5]:
        checks.append(timed(lambda c=check: at.multiselect(key="check").set_value([c]).run()))
    at.multiselect(key="check").set_value([]).run()
    for family in FAMILIES[:5]:
        families.append(timed(lambda f=family: at.multiselect(key="family").set_value([f]).run()))
    at.multiselect(key="family").set_value([]).run()
    out["filter_ms"] = summary(checks + families)
    out["sort_ms"] = summary([timed(lambda o=o: at.selectbox(key="order").set_value(o).run()) for o in state.ORDERS[1:]])
    return out


def lasso(folder: Path) -> dict[str, Any]:
    """Time lassos of 60 corners, small and large: the rows inside, and the whole rerun of the Map page that shows them."""
    from curation.app import map as maps

    signals = Store(folder).signals()
    assert signals is not None
    places = maps.places_of(signals["map_x"].to_numpy(), signals["map_y"].to_numpy())
    left, bottom, right, top = places.whole
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    rng = np.random.default_rng(11)
    shapes = []
    for radius in (0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.45):
        at = rng.uniform(0.4, 0.6, 2)
        way = radius * (1 + 0.2 * np.sin(5 * angle))
        shapes.append([(left + (right - left) * (at[0] + r * np.cos(a)), bottom + (top - bottom) * (at[1] + r * np.sin(a)))
                       for r, a in zip(way, angle)])
    codes = [maps.code_of(s, places.whole) for s in shapes]
    found = [len(maps.inside(places, maps.corners_of(c, places.whole))) for c in codes]
    inside = [took(lambda c=c: maps.inside(places, maps.corners_of(c, places.whole))) for c in codes]
    at = opened(folder, "map")
    times = []
    for code in codes:
        at.query_params["lasso"] = code
        times.append(took(at.run))
        assert not at.exception, at.exception
    return {"rows_inside": found, "inside_ms": summary(inside), "lasso_ms": summary(times)}


# ---- in the browser

PAINTED = """(() => {
  const seen = () => {
    const app = document.querySelector('[data-testid=stApp]');
    const main = document.querySelector('[data-testid=stMainBlockContainer]');
    if (app && main && app.getAttribute('data-test-script-state') === 'notRunning' &&
        main.innerText.trim() && main.querySelector('[data-testid=stElementContainer]') &&
        !document.querySelector('[data-testid=stSkeleton]'))
      window.painted = performance.now();
    else { if (!window.first && main && main.innerText.trim()) window.first = performance.now(); requestAnimationFrame(seen); }
  };
  requestAnimationFrame(seen);
})()"""

KEYS = """async presses => {
  const card = () => document.querySelector('.cw-card');
  const times = [];
  for (let i = 0; i < presses; i++) {
    const before = card().textContent, began = performance.now();
    document.dispatchEvent(new KeyboardEvent('keydown', { key: i % 3 === 2 ? 'k' : 'j', bubbles: true }));
    while (card().textContent === before) {
      if (performance.now() - began > 5000) throw new Error('the card did not change');
      await new Promise(r => setTimeout(r, 0));
    }
    card().getBoundingClientRect();      // the layout is part of it
    times.push(performance.now() - began);
    await new Promise(r => setTimeout(r, 60));
  }
  return times;
}"""


def chromium(p: Any) -> str:
    given = os.environ.get("CHROMIUM")
    return given or ("/usr/bin/chromium" if Path("/usr/bin/chromium").exists() else p.chromium.executable_path)


def in_browser(folder: Path, presses: int) -> dict[str, Any]:
    """Start the server, drive it, and return times in the browser and the server's memory at the end."""
    from curation.app.cli import environment, streamlit_argv
    from playwright.sync_api import sync_playwright

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    server = subprocess.Popen(streamlit_argv("127.0.0.1", port), env=environment(folder, None), stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _until_up(url)
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=chromium(p), args=list(CHROMIUM))
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            context.add_init_script(PAINTED)
            out = {"paint": _paints(context, url), **_keys(context, url, presses), **_memory(server.pid)}
            browser.close()
    finally:
        server.terminate()
        server.wait(20)
    out["paint_ms"] = max(x["warm_ms"] for x in out["paint"].values())
    return out


def _until_up(url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    ends = time.monotonic() + 60
    while True:
        try:
            opener.open(url + "/_stcore/health", timeout=2).read()
            return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < ends, "the server does not answer"
            time.sleep(0.2)


def _open(context: Any, address: str) -> dict[str, float]:
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    tab.goto(address)
    tab.wait_for_function("window.painted")
    found: dict[str, float] = tab.evaluate("({whole: window.painted, first: window.first ?? window.painted})")
    tab.close()
    return found


def _paints(context: Any, url: str) -> dict[str, Any]:
    """Return {page: first and whole paint in ms}: once cold, then the median of three new tabs."""
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    tab.goto(url)
    tab.wait_for_function("window.painted")
    links = tab.locator("[data-testid=stTopNavLink]")
    places = [str(x) for x in links.evaluate_all("all => all.map(a => new URL(a.href).pathname)")] or ["/"]
    tab.close()
    out = {}
    for place in dict.fromkeys(places):
        cold = _open(context, url + place)
        warm = [_open(context, url + place) for _ in range(3)]
        out[place] = {"cold_ms": round(cold["whole"]), "warm_ms": round(statistics.median(x["whole"] for x in warm)),
                      "first_words_ms": round(statistics.median(x["first"] for x in warm))}
    return out


def _keys(context: Any, url: str, presses: int) -> dict[str, Any]:
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    tab.goto(url + "/review?queue=errors")
    tab.wait_for_selector(".cw-card .cw-turn")
    tab.wait_for_function("window.painted")
    tab.wait_for_timeout(1000)
    tab.evaluate(KEYS, 6)
    times = tab.evaluate(KEYS, presses)
    tab.close()
    return {"key_ms": {**summary(times), "median": round(statistics.median(times), 2)}}


def _memory(pid: int) -> dict[str, int]:
    """Return megabytes of a process: what is resident, and of that what is its own and what is mapped from files."""
    lines = dict(x.split(":", 1) for x in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: int(lines[field].split()[0]) // 1024
            for name, field in (("rss_mb", "VmRSS"), ("rss_own_mb", "RssAnon"), ("rss_files_mb", "RssFile"),
                                ("rss_peak_mb", "VmHWM"))}


def met(result: dict[str, Any]) -> dict[str, str]:
    """Return {budget: "have / allowed"}, with a word where it is missed."""
    seen = result["browser"]
    have = {"key_ms": seen["key_ms"]["median"], "paint_ms": seen["paint_ms"], "rss_mb": seen["rss_mb"]}
    have |= {k: result["rerun"][k]["median"] for k in ("page_ms", "filter_ms", "sort_ms")}
    have["lasso_ms"] = result["lasso"]["lasso_ms"]["median"]
    return {k: f"{v:g} / {BUDGETS[k]:g}" + ("" if v <= BUDGETS[k] else " MISSED") for k, v in have.items()}


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--folder", type=Path, required=True)
    ap.add_argument("--rows", type=int, default=1_000_000)
    ap.add_argument("--presses", type=int, default=60)
    ap.add_argument("--parts", default="functions,rerun,lasso,browser")
    ap.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "ui.json")
    a = ap.parse_args()
    made = took(lambda: make_folder(a.folder, a.rows))
    result: dict[str, Any] = {"rows": a.rows, "verdicts": min(a.rows, ENTRIES), "python": platform.python_version(),
                              "cores": os.cpu_count(), "made_seconds": round(made / 1000, 1)}
    parts = {"functions": lambda: functions(a.folder), "rerun": lambda: reruns(a.folder), "lasso": lambda: lasso(a.folder),
             "browser": lambda: in_browser(a.folder, a.presses)}
    for name in a.parts.split(","):
        result[name] = parts[name]()
        print(json.dumps({name: result[name]}, indent=1), flush=True)
    result["peak_rss_of_this_process_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if set(a.parts.split(",")) == set(parts):
        result["budgets"] = met(result)
        a.out.parent.mkdir(parents=True, exist_ok=True)
        a.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(result["budgets"], indent=1))


if __name__ == "__main__":
    sys.exit(main())
