"""Near-duplicates on a Ray cluster of two nodes: the same result as on one machine, through the CLI too."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from curation import engine, scale, sketch
from curation.cli import cli
from curation.errors import CurationError
from curation.spec import Spec
from curation.store import Store

from .rows import make_rows

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'curation-workbench[scale]'")
STORE = 100 * 2**20


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    """A head and one more node, a core each, each with its own object store."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={
        "num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False})
    nodes.add_node(num_cpus=1, object_store_memory=STORE)
    yield nodes
    nodes.shutdown()


@pytest.fixture(scope="module")
def cluster(two_nodes: Any) -> Iterator[scale.Cluster]:
    with scale.Cluster(two_nodes.address) as cluster:
        yield cluster


def corpus(n: int, seed: int = 0) -> list[str]:
    """Texts with copies, edits, full buckets of one template, empty ones, and text that is not ASCII."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("abcdefghij", k=rng.randint(2, 7))) for _ in range(300)]
    out: list[str] = []
    for i in range(n):
        words = rng.choices(vocabulary, k=rng.randint(0, 40))
        kind = rng.random()
        if out and kind < 0.2:
            words = rng.choice(out).split()
            for _ in range(rng.randint(0, 3)):
                if words:
                    words[rng.randrange(len(words))] = rng.choice(vocabulary)
        elif kind < 0.3:
            words = [*(vocabulary[k] for k in range(30)), str(i)]
        elif kind < 0.33:
            words = ["\u00dcBER", "stra\u00dfe", "\ufb01n", *words]
        out.append(" ".join(words))
    return out


def same(one: sketch.Pairs, two: sketch.Pairs) -> None:
    assert len(one) == len(two)
    for name in ("left", "right", "score", "fields"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert (one.rows, one.candidates, one.recall) == (two.rows, two.candidates, two.recall)


def test_the_cluster_has_two_nodes_and_both_work(cluster: scale.Cluster) -> None:
    assert len([n for n in ray.nodes() if n["Alive"]]) == 2

    @ray.remote(scheduling_strategy="SPREAD", num_cpus=1)
    def where() -> str:
        time.sleep(0.5)  # each node has one processor: a task that stays sends the next one to the other node
        return ray.get_runtime_context().get_node_id()

    assert len(set(ray.get([where.remote() for _ in range(6)]))) == 2
    assert cluster.cores == 2


@pytest.mark.parametrize(("unit", "ngram", "threshold", "floor"), [
    ("word", 5, 0.8, 0.8), ("word", 2, 0.6, 0.5), ("char", 5, 0.8, 0.7)])
def test_pairs_are_those_of_one_machine(cluster: scale.Cluster, unit: str, ngram: int, threshold: float, floor: float) -> None:
    columns = [pa.array(corpus(4000)), pa.chunked_array([corpus(1500, 1), corpus(2500, 2)])]
    for some in (columns[:1], columns):
        options = {"threshold": threshold, "floor": floor, "unit": unit, "ngram": ngram}
        here = sketch.near_pairs(some, **options)
        with sketch.run_on(cluster):
            there = sketch.near_pairs(some, **options)
            copy, of = sketch.same_shingles(some)
        same(here, there)
        want = sketch.same_shingles(some)
        assert np.array_equal(copy, want[0]) and np.array_equal(of, want[1])
    assert len(sketch.near_pairs(columns[:1])) > 100


def test_keys_go_out_in_rounds_that_the_object_stores_hold(cluster: scale.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [pa.array(corpus(5000, 3))]
    monkeypatch.setattr(cluster, "memory", 4e6)
    parts, at_once = cluster._parts(5000, 16)
    assert parts > at_once, "several rounds"
    with sketch.run_on(cluster):
        there = sketch.near_pairs(texts)
    same(sketch.near_pairs(texts), there)


def test_rows_that_do_not_take_part_and_rows_added_behind(cluster: scale.Cluster) -> None:
    texts, s = [pa.array(corpus(3000, 4))], sketch.search()
    among = np.arange(3000) % 3 > 0
    want = sketch.pairs_of(texts, sketch.find(texts, s, among=among), s)
    first = [texts[0].slice(0, 2000)]
    with sketch.run_on(cluster):
        same(want, sketch.pairs_of(texts, sketch.find(texts, s, among=among), s))
        before = sketch.find(first, s, among=among[:2000])
        same(want, sketch.pairs_of(texts, sketch.find(texts, s, before, among=among[2000:]), s))


def test_a_lost_node_does_not_change_the_result(two_nodes: Any, cluster: scale.Cluster) -> None:
    texts = [pa.array(corpus(20000, 5))]
    want = sketch.near_pairs(texts)
    node = two_nodes.add_node(num_cpus=1, object_store_memory=STORE)
    lost = threading.Timer(0.3, lambda: two_nodes.remove_node(node, allow_graceful=False))
    lost.start()
    with sketch.run_on(cluster):
        got = sketch.near_pairs(texts)
    lost.join()
    same(want, got)


def test_the_result_does_not_depend_on_how_rows_are_cut() -> None:
    """Parts and groups without Ray: slices of any size, any number of parts."""
    texts, s = corpus(1200, 6), sketch.search(threshold=0.6, ngram=3)
    column = pa.array(texts)
    whole = sketch.sketch_rows([column], s)
    use, _, _ = sketch.copies(whole.identity)
    packed, hot = sketch.candidates(whole.keys, whole.glimpse, use, s)
    assert hot.any()
    for step, parts in ((100, 7), (1200, 1), (333, 3)):
        starts = range(0, 1200, step)
        code = scale.code_hash()
        dealt = [scale.deal(scale.sketch_slice(scale.packed_columns([column.slice(at, step)]), s, code), use[at:at + step], at,
                            parts, 0, parts) for at in starts]
        found = [scale.group(s, *(d[k] for d in dealt)) for k in range(parts)]
        assert np.array_equal(sketch.distinct(np.concatenate([f[0] for f in found])), sketch.distinct(packed))
        marks = np.zeros(1200, np.uint8)
        for _, rows, mark in found:
            marks[rows] = np.maximum(marks[rows], mark)
        assert np.array_equal(marks, hot)


def test_another_version_on_a_node_is_refused() -> None:
    with pytest.raises(CurationError, match="another version") as e:
        scale.sketch_slice(scale.packed_columns([pa.array(["a"])]), sketch.search(), "0" * 16)
    assert e.value.hint


def test_the_cli_finds_the_same_on_the_cluster(two_nodes: Any, tmp_path: Path) -> None:
    texts = corpus(2500, 7)
    rows = make_rows([{"instruction": t or "Say nothing.", "response": f"{t} {t[::-1]}"} for t in texts])
    store = Store.create(tmp_path / "set")
    store.import_rows(rows.to_batches(), source="x")
    checks = "dup.exact,dup.near,dup.boilerplate"
    done = subprocess.run(
        [sys.executable, "-m", "curation.cli", "check", str(store.path), "--checks", checks, "--json", "--engine", "ray",
         "--address", two_nodes.address], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "INFO" not in done.stderr and "WARNING" not in done.stderr, done.stderr
    there = Store(store.path).flags().to_pylist()
    other = Store.create(tmp_path / "other")
    other.import_rows(rows.to_batches(), source="x")
    engine.check(other, Spec(), checks=checks.split(","))
    assert there == other.flags().to_pylist() and len(there) > 100
    assert json.loads(done.stdout)["flags"]["dup.near"] > 0


@pytest.mark.parametrize(("extra", "says"), [
    (["--engine", "ray", "--address", "127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1"),
    (["--engine", "ray", "--address", "here"], "'here' is not the address of a Ray cluster"),
    (["--address", "auto"], "--address auto without --engine ray"),
])
def test_an_address_where_nothing_is_says_what_to_do(extra: list[str], says: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"instruction": "Add.", "output": "3"}\n')
    done = CliRunner().invoke(cli, ["check", str(file), *extra])
    assert isinstance(done.exception, CurationError | SystemExit)
    assert says in (done.output if isinstance(done.exception, SystemExit) else done.exception.what)


def test_an_interrupt_ends_a_cluster_of_ones_own(tmp_path: Path) -> None:
    texts = corpus(3000, 8)
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"instruction": t or "x", "output": t + " so"}) + "\n" for t in texts))
    code = ("import os, signal, sys\n"
            "from curation import scale\n"
            "start = scale.Cluster.sketch_rows\n"
            "def interrupted(self, columns, s):\n"
            "    out = start(self, columns, s)\n"
            "    os.kill(os.getpid(), signal.SIGINT)\n"
            "    return out\n"
            "scale.Cluster.sketch_rows = interrupted\n"
            "from curation.cli import main\n"
            f"sys.argv = ['curation', 'check', {str(file)!r}, '--engine', 'ray', '--checks', 'dup.near', '--workers', '2']\n"
            "main()\n")
    with tempfile.TemporaryDirectory(prefix="r") as place:      # short: Ray puts sockets there
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                              env={**os.environ, "RAY_TMPDIR": place},
                              preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert done.returncode == 130 and "Traceback" not in done.stderr, done.stderr
    raylets = [p for p in Path("/proc").glob("[0-9]*/cmdline") if place.encode() in _read(p)]
    assert not raylets, "Ray's processes are gone"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
