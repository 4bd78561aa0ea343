"""Presidio as a second opinion: never unless asked for, never from the network, and plain words where it is missing."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from rows import make_rows

from curation.checks.privacy import presidio
from curation.errors import CurationError
from curation.presidio import PIECE, Analyzer, _pieces, analyzer, installed

needed = pytest.mark.skipif(not installed(), reason="the extra presidio (about 200 MB) is not installed")
TEXT = "My passport number is 123456789, mail ann.lee@yahoo.com or call (661) 365-3477."


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise AssertionError("something asks the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def test_off_it_needs_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    assert presidio(make_rows([{"instruction": TEXT, "response": "ok"}])).num_rows == 0


def test_without_the_package_the_way_out_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    analyzer.cache_clear()
    with pytest.raises(CurationError, match="presidio_analyzer") as e:
        presidio(make_rows([{"instruction": TEXT, "response": "ok"}]), on=True)
    assert "curation-workbench[presidio]" in e.value.hint


def test_pieces_make_the_text_again_and_end_at_blanks():
    text = "word and word " * 6000
    pieces = list(_pieces(text))
    assert "".join(p for _, p in pieces) == text and [at for at, _ in pieces][:1] == [0]
    assert all(len(p) <= PIECE and p.endswith(" ") for _, p in pieces) and len(pieces) > 3
    assert [len(p) for _, p in _pieces("x" * (PIECE + 1))] == [PIECE, 1]


@needed
def test_patterns_alone_see_values_and_say_who_saw_them(offline):
    analyzer.cache_clear()
    flags = presidio(make_rows([{"instruction": TEXT, "response": "Nothing here but C3 and x86."}]), on=True).to_pylist()
    assert [(f["row"], f["field"], TEXT[f["start"]:f["end"]]) for f in flags] == [
        (0, "instruction", "123456789"), (0, "instruction", "ann.lee@yahoo.com"), (0, "instruction", "(661) 365-3477")]
    assert {f["fix"] for f in flags} == {"My passport number is [US_PASSPORT], mail [EMAIL_ADDRESS] or call [PHONE_NUMBER]."}
    assert flags[1]["message"].startswith("Presidio 2.")
    assert "patterns takes this in the instruction for EMAIL_ADDRESS" in flags[1]["message"]
    assert not any("yahoo" in f["message"] for f in flags)


@needed
def test_entities_and_score_are_chosen(offline):
    seer = analyzer()
    assert [s.entity for s in seer.find(TEXT, entities=("EMAIL_ADDRESS",))] == ["EMAIL_ADDRESS"]
    assert [s.entity for s in seer.find(TEXT, min_score=0.9)] == ["EMAIL_ADDRESS"]
    assert not seer.find("See https://example.org on 3 June 1986.")
    assert [s.entity for s in seer.find("See https://example.org", entities=("URL",))] == ["URL"]
    with pytest.raises(CurationError, match="PERSON") as e:
        seer.find(TEXT, entities=("PERSON",))
    assert "model" in e.value.hint


@needed
def test_a_model_is_never_fetched(offline):
    with pytest.raises(CurationError, match="nothing is downloaded") as e:
        Analyzer("en_core_no_such")
    assert "spacy download en_core_no_such" in e.value.hint


@needed
def test_a_model_adds_names(offline, tmp_path):
    import spacy

    nlp = spacy.blank("en", meta={"name": "ruler", "version": "1.2.3"})
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Ann Lee"}])
    nlp.to_disk(tmp_path / "ruler")
    seer = Analyzer(str(tmp_path / "ruler"))
    text = "Ask Ann Lee at ann.lee@yahoo.com."
    assert [(s.entity, text[s.start:s.end]) for s in seer.find(text)] == [
        ("PERSON", "Ann Lee"), ("EMAIL_ADDRESS", "ann.lee@yahoo.com")]
    assert seer.name.endswith("en_ruler 1.2.3")
    with pytest.raises(CurationError, match="for 'en', not for 'de'"):
        Analyzer(str(tmp_path / "ruler"), "de")
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(CurationError, match="marks no names"):
        Analyzer(str(tmp_path / "blank"))


@needed
def test_a_long_text_is_read_whole(offline):
    text = "word " * (PIECE // 4) + "ann.lee@yahoo.com"
    assert [text[s.start:s.end] for s in analyzer().find(text)] == ["ann.lee@yahoo.com"]
