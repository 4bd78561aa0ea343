"""The vetted set: byte-identical, leak-free, every row accounted for."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import xxhash
import yaml

from curation import engine, export, gate
from curation.errors import CurationError
from curation.spec import Spec, parse
from curation.store import Store

from .rows import make_rows

SPEC = """
name: small set
licence: apache-2.0
families:
  - {id: qa}
split: {validation: 0.3, seed: 1}
"""
TOPICS = ("bridge", "garden", "market", "harbour", "library", "theatre", "station", "museum", "bakery", "castle")


def given() -> list[dict]:
    rows = [
        {
            "instruction": f"What can you tell me about the {t} in town number {k}?",
            "family": "qa",
            "id": f"{t}{k}",
            "response": f"The {t} of town {k} was built by its citizens and opens on day {k} of each week.",
        }
        for t in TOPICS
        for k in range(3)
    ]
    rows.append({**rows[0], "id": "copy"})
    rows.append(
        {"instruction": rows[1]["instruction"], "family": "qa", "response": "Another answer to the same question, in full."}
    )
    rows.append({"instruction": "Say nothing.", "family": "qa", "response": ""})
    return rows


def ready(path: Path, spec: Spec) -> Store:
    store = Store.create(path)
    store.import_rows(make_rows(given()).to_batches(), source="x")
    engine.check(store, spec)
    gate.apply_policy(store, spec)
    return store


@pytest.fixture(scope="module")
def spec() -> Spec:
    return parse(SPEC + "gate: {max_warning_rate: 1.0, max_error_rate: 1.0}\n")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, spec: Spec) -> tuple[Store, dict]:
    store = ready(tmp_path_factory.mktemp("set"), spec)
    return store, export.export(store, spec)


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): xxhash.xxh3_64_hexdigest(p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def test_files_and_counts(done: tuple[Store, dict]) -> None:
    _, manifest = done
    folder = Path(manifest["path"])
    assert folder.name == "1"
    train, held = pq.read_table(folder / "train.parquet"), pq.read_table(folder / "validation.parquet")
    assert train.column_names == list(export.SET_COLUMNS)
    assert (train.num_rows, held.num_rows) == (manifest["counts"]["train"], manifest["counts"]["validation"])
    assert train.num_rows and held.num_rows
    assert len((folder / "train.jsonl").read_text().splitlines()) == train.num_rows
    assert set(manifest["checks"]) == set(engine.CHECKS)
    on_disk = json.loads((folder / "manifest.json").read_text())
    for name, digest in on_disk["files"].items():
        assert xxhash.xxh3_128_hexdigest((folder / name).read_bytes()) == digest, name


def test_ledger_accounts_for_every_row(done: tuple[Store, dict]) -> None:
    store, manifest = done
    ledger = pq.read_table(Path(manifest["path"]) / "ledger.parquet").to_pylist()
    assert [r["row"] for r in ledger] == list(range(store.rows().num_rows))
    out = {r["id"]: r for r in ledger}
    assert out["copy"]["outcome"] == "dropped" and out["copy"]["check"] == "dup.exact" and "row 0" in out["copy"]["reason"]
    empty = ledger[-1]
    assert (empty["outcome"], empty["check"], empty["kind"]) == ("dropped", "response.empty", "policy")
    counts = {k: sum(r["outcome"] == k for r in ledger) for k in ("train", "validation", "dropped")}
    assert counts == {k: manifest["counts"][k] for k in counts}


def test_same_prompt_never_on_both_sides(done: tuple[Store, dict]) -> None:
    _, manifest = done
    folder = Path(manifest["path"])
    prompts = [
        {m["content"] for ms in pq.read_table(folder / f"{s}.parquet")["messages"].to_pylist() for m in ms[:1]}
        for s in ("train", "validation")
    ]
    assert not prompts[0] & prompts[1]


def test_byte_identical_from_the_same_inputs(done: tuple[Store, dict], spec: Spec, tmp_path: Path) -> None:
    store, manifest = done
    again = export.export(store, spec, out=tmp_path / "again")
    assert digests(Path(manifest["path"])) == digests(tmp_path / "again")
    elsewhere = ready(tmp_path / "elsewhere", spec)
    third = export.export(elsewhere, spec)
    assert digests(Path(third["path"])) == digests(Path(again["path"]))


def test_unchanged_set_is_not_written_twice(done: tuple[Store, dict], spec: Spec) -> None:
    store, manifest = done
    again = export.export(store, spec)
    assert again["path"] == manifest["path"] and not again["written"]


def test_split_does_not_move_when_rows_come(tmp_path: Path, spec: Spec, done: tuple[Store, dict]) -> None:
    store, _ = done
    more = Store.create(tmp_path / "more")
    more.import_rows(
        make_rows(
            [*given(), {"instruction": "A new one?", "response": "A new answer, quite unlike the others.", "family": "qa"}]
        ).to_batches(),
        source="x",
    )
    engine.check(more, spec)
    gate.apply_policy(more, spec)
    a, b = (
        dict(zip(s.rows()["uid"].to_pylist(), export.split_rows(gate.effective(s, spec), spec).tolist(), strict=True))
        for s in (store, more)
    )
    assert all(b[uid] == side for uid, side in a.items())


def test_a_failed_gate_exports_nothing_without_a_reason(tmp_path: Path) -> None:
    strict = parse(SPEC + "gate: {min_rows: 1000}\n")
    store = ready(tmp_path, strict)
    with pytest.raises(CurationError, match="at least 1,000"):
        export.export(store, strict)
    assert not (tmp_path / "vetted").exists()
    done = export.export(store, strict, override="a trial")
    assert done["gate"] == "failed" and done["override"] == "a trial"


def test_raw_arm_has_every_row(done: tuple[Store, dict], spec: Spec, tmp_path: Path) -> None:
    store, _ = done
    raw = export.export(store, spec, out=tmp_path / "raw", gated=False)
    assert raw["counts"]["dropped"] == 0 and raw["gate"] == "not applied"
    assert raw["counts"]["train"] + raw["counts"]["validation"] == store.rows().num_rows


@pytest.mark.parametrize("format", export.FORMATS)
def test_every_format_reads_back(done: tuple[Store, dict], spec: Spec, tmp_path: Path, format: str) -> None:
    from curation import formats

    store, _ = done
    made = export.export(store, spec, out=tmp_path / format, format=format, hf=False)
    back = Store.create(tmp_path / f"{format}-back")
    back.import_rows(formats.read(tmp_path / format / "train.jsonl"), source="x")
    want = pq.read_table(tmp_path / format / "train.parquet")["messages"].to_pylist()
    assert back.rows()["messages"].to_pylist() == want
    info = json.loads((tmp_path / format / "dataset_info.json").read_text())
    columns = next(iter(info.values()))["columns"]
    first = json.loads((tmp_path / format / "train.jsonl").read_text().splitlines()[0])
    assert set(columns.values()) - {"system", "history", "input"} <= set(first), (columns, first)
    assert made["format"] == format


def test_card_has_front_matter_that_parses(done: tuple[Store, dict]) -> None:
    _, manifest = done
    text = (Path(manifest["path"]) / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "apache-2.0" and front["size_categories"] == ["n<1K"]
    assert "| dup.exact | 1 |" in text and "| qa |" in text
    for name in ("axolotl.yaml", "trl.yaml"):
        assert yaml.safe_load((Path(manifest["path"]) / name).read_text())["learning_rate"] == 0.0002


def test_hf_folder_loads(done: tuple[Store, dict]) -> None:
    from datasets import load_from_disk

    _, manifest = done
    loaded = load_from_disk(str(Path(manifest["path"]) / "hf"))
    assert loaded["train"].num_rows == manifest["counts"]["train"]


def test_a_crash_leaves_no_half_set(tmp_path: Path, spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ready(tmp_path, spec)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "card", full)
    with pytest.raises(OSError, match="No space"):
        export.export(store, spec)
    assert list((tmp_path / "vetted").iterdir()) == []


def test_a_folder_without_a_manifest_is_passed_over(tmp_path: Path, spec: Spec) -> None:
    store = ready(tmp_path, spec)
    (store.path / "vetted" / "4").mkdir(parents=True)
    done = export.export(store, spec)
    assert Path(done["path"]).name == "5" and done["written"]
    assert not export.export(store, spec)["written"]


def test_edited_text_is_what_leaves(tmp_path: Path, spec: Spec) -> None:
    from curation.store import Entry

    store = ready(tmp_path, spec)
    row = store.rows().slice(4, 1).to_pylist()[0]
    store.verdicts.append(
        [Entry(row["uid"], "edit", "clearer", "response", row["response"], "An edited answer that is whole.")], actor="ann"
    )
    made = export.export(store, spec)
    assert made["counts"]["edited"] == 1
    texts = (Path(made["path"]) / "train.jsonl").read_text() + (Path(made["path"]) / "validation.jsonl").read_text()
    assert "An edited answer that is whole." in texts and row["response"] not in texts
