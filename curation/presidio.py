"""Presidio's recognisers over a text, where the package is installed: offline, with or without a model of spaCy's."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .errors import CurationError, needs

#: what Presidio finds and nobody can be found by: a date, a web address, a random number
NOT_PERSONAL = frozenset({"DATE_TIME", "URL", "UUID"})
PATTERNS = "patterns"       # what an analyzer without a model is called
PIECE = 20_000              # characters looked at as one text: a model's memory grows with it


@dataclass(frozen=True)
class Seen:
    """A value that Presidio takes for personal data: characters [start, end); `score` in [0, 1] is Presidio's own."""

    entity: str
    start: int
    end: int
    score: float


class Analyzer:
    """Presidio's predefined recognisers for one language.

    Without a model those that go by pattern, checksum and words nearby work; names, places and organisations need one.
    `name` says which version of Presidio and which model it is.
    """

    def __init__(self, model: str = "", language: str = "en") -> None:
        needs("presidio_analyzer", "presidio")
        import presidio_analyzer
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry

        logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)      # one line a recogniser of another language
        nlp, called = _pipeline(model, language)
        engine = _engine(nlp, language)
        registry = RecognizerRegistry(supported_languages=[language])
        registry.load_predefined_recognizers(languages=[language], nlp_engine=engine)
        if not model:
            registry.remove_recognizer("SpacyRecognizer")       # it would promise names and find none
        _stay_offline(registry, language)
        self.language = language
        self.name = f"Presidio {getattr(presidio_analyzer, '__version__', _version())}, {called}"
        self._engine = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[language])
        self.entities: tuple[str, ...] = tuple(sorted(self._engine.get_supported_entities(language)))

    def chosen(self, entities: Sequence[str] = ()) -> list[str]:
        """Return the entities to look for: those asked for, or all that lead to a person. Unknown ones are an error."""
        unknown = sorted(set(entities) - set(self.entities))
        if unknown:
            way = ("give the option model the name of an installed spaCy model" if PATTERNS in self.name
                   else "leave the option out to look for all")
            raise CurationError(
                f"{self.name} does not look for {', '.join(unknown)}; it looks for {', '.join(self.entities)}", way)
        return list(entities) or [e for e in self.entities if e not in NOT_PERSONAL]

    def find(self, text: str, *, entities: Sequence[str] = (), min_score: float = 0.4) -> list[Seen]:
        """Return what is seen in `text`, in order, without overlaps: of two that overlap the surer, then the longer.

        A long text is read in pieces; a value across their seam, which is put at a blank, is not seen.
        """
        chosen, found = self.chosen(entities), []
        for at, piece in _pieces(text):
            for r in self._engine.analyze(piece, self.language, entities=chosen, score_threshold=min_score):
                found.append(Seen(r.entity_type, at + r.start, at + r.end, float(r.score)))
        kept: list[Seen] = []
        for seen in sorted(found, key=lambda s: (-s.score, s.start - s.end, s.start, s.entity)):
            if all(seen.end <= k.start or seen.start >= k.end for k in kept):
                kept.append(seen)
        return sorted(kept, key=lambda s: s.start)


@lru_cache(maxsize=2)
def analyzer(model: str = "", language: str = "en") -> Analyzer:
    """Return the analyzer of a model; the last two stay loaded."""
    return Analyzer(model, language)


def _version() -> str:
    from importlib.metadata import version

    return version("presidio-analyzer")


def _pipeline(model: str, language: str) -> tuple[Any, str]:
    """Return (spaCy pipeline, what it is called): a model that is installed or a folder, or none but the division into words."""
    import spacy

    if not model:
        try:
            return spacy.blank(language), PATTERNS
        except ImportError:
            raise CurationError(f"spaCy has no language {language!r}", "give a code such as en or de") from None
    if not (spacy.util.is_package(model) or (Path(model) / "config.cfg").is_file()):
        raise CurationError(
            f"the spaCy model {model!r} is not installed and is no folder of a model; nothing is downloaded for you",
            f"python -m spacy download {model}, or give the folder of a model, or leave the option model out for patterns alone")
    try:
        nlp = spacy.load(model)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise CurationError(f"spaCy cannot load {model!r}: {str(error).splitlines()[0]}",
                            "install the version of the model that fits the installed spaCy") from error
    if nlp.lang != language:
        raise CurationError(f"the spaCy model {model!r} is for {nlp.lang!r}, not for {language!r}",
                            f"set the option language to {nlp.lang}")
    if not any("doc.ents" in nlp.get_pipe_meta(name).assigns for name in nlp.pipe_names):
        raise CurationError(f"the spaCy model {model!r} marks no names", "give a model that has a part 'ner'")
    return nlp, f"{nlp.meta.get('lang')}_{nlp.meta.get('name')} {nlp.meta.get('version')}"


def _engine(nlp: Any, language: str) -> Any:
    """Return Presidio's view of a pipeline; a word without a lemma stands for itself, so words nearby count in any pipeline."""
    from presidio_analyzer.nlp_engine import NlpArtifacts, SpacyNlpEngine

    class Engine(SpacyNlpEngine):       # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(models=[{"lang_code": language, "model_name": nlp.meta.get("name", "")}])
            self.nlp = {language: nlp}

        def load(self) -> None:
            """Nothing to load, and nothing to download."""

        def process_text(self, text: str, language: str) -> NlpArtifacts:
            doc = nlp(text)
            for token in doc:
                token.lemma_ = token.lemma_ or token.lower_
            return self._doc_to_nlp_artifact(doc, language)

    return Engine()


def _stay_offline(registry: Any, language: str) -> None:
    """Exchange the e-mail recogniser, which would fetch a list of domains, for one that asks the list of its package."""
    from presidio_analyzer.predefined_recognizers import EmailRecognizer
    from tldextract import TLDExtract

    domains = TLDExtract(suffix_list_urls=(), cache_dir=None)

    class Email(EmailRecognizer):       # type: ignore[misc]
        def validate_result(self, pattern_text: str) -> bool:
            return bool(domains(pattern_text).top_domain_under_public_suffix)

    registry.remove_recognizer("EmailRecognizer")
    registry.add_recognizer(Email(supported_language=language))


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Yield (offset, piece) of a text, cut at a blank where there is one."""
    at = 0
    while at < len(text):
        end = min(len(text), at + PIECE)
        if end < len(text):
            end = max(text.rfind(" ", at + PIECE // 2, end), text.rfind("\n", at + PIECE // 2, end)) + 1 or end
        yield at, text[at:end]
        at = end


def installed() -> bool:
    """Return whether Presidio can be imported here."""
    return importlib.util.find_spec("presidio_analyzer") is not None
