"""The house: imports run one way, nothing heavy at import, packages listed as they lie."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "errors": 1,
    "text": 1,
    "voice": 1,
    "asking": 1,
    "addresses": 4,
    "presidio": 4,
    "model": 2,
    "options": 2,
    "spec": 3,
    "formats": 3,
    "store": 3,
    "vectors": 4,
    "references": 4,
    "sketch": 4,
    "kernels": 4,
    "shingles": 4,
    "clusters": 4,
    "wording": 4,
    "verifiers": 4,
    "constraints": 4,
    "features": 4,
    "hashing": 4,
    "heads": 4,
    "meaning": 4,
    "ending": 4,
    "refusal": 4,
    "harm": 4,
    "edges": 4,
    "families": 4,
    "clustering": 4,
    "manner": 4,
    "distilled": 4,
    "diversity": 7,
    "neighbours": 4,
    "facility": 4,
    "selection": 7,
    "mapping": 7,
    "cli_selection": 9,
    "past": 4,
    "contents": 4,
    "grouping": 4,
    "remembered": 2,
    "spec_edit": 3,
    "words": 4,
    "likeness": 4,
    "scale": 4,
    "cosine": 4,
    "cli_diversity": 9,
    "identity": 4,
    "checks": 5,
    "workers": 2,
    "engine": 6,
    "ready": 7,
    "calibrate": 7,
    "judge": 7,
    "cli_judge": 9,
    "cli_fixes": 9,
    "cli_calibrate": 9,
    "cli_duplicates": 9,
    "coverage": 6,
    "matrices": 6,
    "review": 6,
    "similar": 6,
    "agreement": 6,
    "gate": 6,
    "writing": 6,
    "clean": 6,
    "fit": 7,
    "changes": 7,
    "preferences": 7,
    "cli_preferences": 9,
    "drafts": 7,
    "export": 7,
    "report": 7,
    "report_page": 7,
    "measured": 2,
    "cli": 9,
    "cli_matrices": 9,
    "cli_writing": 9,
    "cli_clean": 9,
    "demo": 9,
    "__init__": 9,
}
ORDER_INSIDE_SIX = ["coverage", "engine", "matrices", "gate", "agreement", "review", "writing"]  # how floor 6 may import itself


def imports(path: Path) -> set[str]:
    """Return the modules of this project that a file imports, absolute, function bodies included."""
    package = (["curation"] if path.parts[len(ROOT.parts)] in ("app", "train", "sample_data") else []) + list(
        path.relative_to(ROOT).parts[:-1]
    )
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            head = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{head}.{a.name}" for a in node.names} | {head}
    return {f for f in found if f.split(".")[0] in ("curation", "app", "train")}


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else "__init__" if len(parts) == 1 else parts[1]


@pytest.mark.parametrize("path", files("curation"), ids=str)
def test_curation_imports_downwards(path: Path) -> None:
    own = path.relative_to(ROOT / "curation").parts[0].removesuffix(".py")
    assert own in FLOORS, f"{own} has no floor"
    for name in imports(path):
        assert not name.startswith(("curation.app", "curation.train", "app", "train")), f"{path.name} imports {name}"
        other = room(name)
        if other not in FLOORS or other in ("__init__", own):
            continue
        assert FLOORS[other] <= FLOORS[own], f"{own} (floor {FLOORS[own]}) imports {other} (floor {FLOORS[other]})"
        if FLOORS[other] == FLOORS[own] == 6:
            assert ORDER_INSIDE_SIX.index(other) < ORDER_INSIDE_SIX.index(own), f"{own} imports {other}"


@pytest.mark.parametrize("path", [p for p in files("curation/checks") if p.name not in ("__init__.py", "base.py")], ids=str)
def test_no_check_imports_another(path: Path) -> None:
    own = f"curation.checks.{path.stem}"
    for name in imports(path):
        if name.startswith("curation.checks.") and not name.startswith((own, "curation.checks.base")):
            raise AssertionError(f"{path.name} imports {name}")
        assert room(name) not in ("engine", "store"), f"{path.name} imports {name}"


#: Modules of train/ that import no torch, not even inside what the app calls.
READS = {"compare", "eval_cli", "runs", "samples", "slices", "votes"}


@pytest.mark.parametrize("path", files("app"), ids=str)
def test_app_imports_of_train_only_what_needs_no_torch(path: Path) -> None:
    found = {n for n in imports(path) if n.startswith(("curation.train", "train"))} - {"curation.train"}
    assert not [n for n in found if n.split(".")[2] not in READS], found


def test_the_app_and_what_it_reads_of_train_import_no_torch() -> None:
    code = (
        "import importlib, sys\n"
        f"for name in {sorted(READS)!r}: importlib.import_module('curation.train.' + name)\n"
        f"for name in {sorted(p.stem for p in (ROOT / 'app' / 'views').glob('[a-z]*.py'))!r}:\n"
        "    importlib.import_module('curation.app.views.' + name)\n"
        "heavy = [m for m in ('torch', 'transformers', 'sentence_transformers', 'ray') if m in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_model_imports_nothing_of_ours() -> None:
    assert imports(ROOT / "curation/model.py") == set()


def test_no_circles() -> None:
    graph = {
        p.stem: {n.split(".")[1] for n in imports(p) if n.count(".") >= 1}
        for p in (ROOT / "curation").glob("*.py")
        if p.stem != "__init__"
    }
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for other in graph.get(name, ()):
                if other in graph and other != name:
                    walk(other, (*path, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_packages_are_listed_as_they_lie() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    lying = {"curation" if f == "curation" else f"curation.{f}" for f in ("curation", "app", "train", "sample_data")}
    for top in ("curation", "app", "train"):
        for path in (ROOT / top).rglob("__init__.py"):
            parts = path.relative_to(ROOT).parts[:-1]
            lying.add(".".join(parts if top == "curation" else ("curation", *parts)))
    assert set(config["packages"]) == lying


def test_import_and_help_are_light() -> None:
    code = (
        "import sys, curation, curation.cli\n"
        "heavy = [m for m in ('torch', 'streamlit', 'ray', 'transformers', 'sentence_transformers') if m in sys.modules]\n"
        "assert not heavy, heavy\n"
        "from click.testing import CliRunner\n"
        "result = CliRunner().invoke(curation.cli.cli, ['--help'])\n"
        "assert result.exit_code == 0, result.output\n"
        "heavy = [m for m in ('torch', 'streamlit', 'ray', 'transformers') if m in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_verb_has_help_and_is_in_the_readme() -> None:
    from click import Context

    from curation.cli import cli

    readme = (ROOT / "README.md").read_text()
    context = Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None and command.help, f"{name} has no help"
        assert f"curation {name}" in readme, f"README.md does not show curation {name}"
