"""Imports run one way, from the command line down to the kernels."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastfnn
import fastfnn_kernels

KERNELS = Path(fastfnn_kernels.__file__).parent
FASTFNN = Path(fastfnn.__file__).parent

#: The way down. A module may import its own rung and those below it; `fastfnn_kernels` lies below them all. Where a
#: folder's modules stand on rungs of their own, they are named one by one.
RUNGS = [
    {"__main__"},
    {"cli"},
    {"report"},
    {"warmup", "plot", "sklearn"},
    {"training"},
    {"training.lr_find"},
    {"training.fit"},
    {"training.course"},
    {"training.predictor", "training.splitting"},
    {"training.inference"},
    {"training.measuring"},
    {"training.arguments", "training.callbacks", "training.finite", "training.outputs", "training.weights"},
    {"training.progress"},
    {"engine"},
    {"engine.context"},
    {"engine.program", "engine.eager"},
    {"engine.folding"},
    {"engine.lowering"},
    {"engine.steps"},
    {"engine.task"},
    {"engine.pace", "engine.sparsity"},
    {"tables.onnx"},
    {"interchange", "models", "gradcheck"},
    {"model"},
    {"_summary"},
    {"layers", "losses"},
    {"functional", "optim", "schedules", "data"},
    {"monitor"},
    {"history"},
    {"metrics"},
    {"tables"},
    {"_checks", "_html", "_paths", "_signals", "_text", "_warnings", "initializers"},
    {"errors"},
]
HEIGHT = {name: -rung for rung, names in enumerate(RUNGS) for name in names}
HEIGHT[""] = HEIGHT["warmup"]  # `import fastfnn` means all that its __init__ gathers

#: The only ways up, taken by methods when they are called, and by type checkers.
WAYS_UP = {
    ("model", f"fastfnn.{name}")
    for name in (
        "interchange.safetensors.save",
        "training.fit.fit",
        "training.inference.Evaluation",
        "training.inference.evaluate",
        "training.inference.predict",
        "training.inference.predict_proba",
        "training.predictor.Predictor",
    )
}

#: What one may import that is neither the standard library nor ours. Everything else is for whoever asks for it.
ALWAYS_THERE = {"numpy", "numba", "llvmlite", "safetensors", "tqdm"}


def imports(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Line, dotted name and whether it stands at the module's top level, of everything that a file imports."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, node in tree.body
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}", node in tree.body


def room_of(path: Path) -> str:
    """The file or folder of `fastfnn` that a file is, or is in."""
    return path.relative_to(FASTFNN).parts[0].removesuffix(".py")


def rung_of(dotted: str) -> str:
    """The longest beginning of a name below `fastfnn` that has a rung."""
    parts = dotted.split(".")
    known = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in known if name in HEIGHT), "")  # a class or function taken from the package itself


FASTFNN_FILES = sorted(path for path in FASTFNN.rglob("*.py") if path != FASTFNN / "__init__.py")
KERNEL_FILES = sorted(KERNELS.rglob("*.py"))


def test_every_module_has_a_rung() -> None:
    rooms = {room_of(path) for path in FASTFNN_FILES}
    assert rooms <= set(HEIGHT), f"say in RUNGS where these belong: {sorted(rooms - set(HEIGHT))}"


@pytest.mark.parametrize("path", FASTFNN_FILES, ids=lambda path: path.relative_to(FASTFNN).as_posix())
def test_a_module_imports_its_own_rung_and_lower_ones_only(path: Path) -> None:
    own = path.relative_to(FASTFNN).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for line, name, at_top in imports(path):
        package, _, target = name.partition(".")
        if package == "fastfnn" and (at_top or (own, name) not in WAYS_UP):
            height = HEIGHT[rung_of(target)]
            assert height <= HEIGHT[rung_of(own)], f"line {line}: {own} imports {name}, which is above it"


@pytest.mark.parametrize("path", KERNEL_FILES, ids=lambda path: path.relative_to(KERNELS).as_posix())
def test_the_kernels_know_nothing_of_fastfnn(path: Path) -> None:
    assert not [(line, name) for line, name, _ in imports(path) if name.split(".")[0] == "fastfnn"]


@pytest.mark.parametrize("path", sorted((KERNELS / "reference").glob("*.py")), ids=lambda path: path.name)
def test_the_references_know_nothing_of_numba_or_of_the_kernels(path: Path) -> None:
    for line, name, _ in imports(path):
        allowed = name.startswith("fastfnn_kernels.reference") or name.split(".")[0] in {
            "__future__",
            "math",
            "numpy",
            "typing",
        }
        assert allowed, f"line {line} imports {name}"


@pytest.mark.parametrize("path", FASTFNN_FILES, ids=lambda path: path.relative_to(FASTFNN).as_posix())
def test_the_layer_api_leaves_numba_to_the_kernels(path: Path) -> None:
    for line, name, at_top in imports(path):
        package = name.split(".")[0]
        assert package not in {"numba", "llvmlite"} or (room_of(path) == "cli" and not at_top), f"line {line}: {name}"


@pytest.mark.parametrize("path", [*FASTFNN_FILES, *KERNEL_FILES], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_optional_package_is_imported_only_where_it_is_used(path: Path) -> None:
    ours = {"fastfnn", "fastfnn_kernels"}
    for line, name, at_top in imports(path):
        package = name.split(".")[0]
        if package == "sklearn" and path.parent == FASTFNN / "sklearn":
            continue  # whoever imports this package wants scikit-learn
        if package not in sys.stdlib_module_names | ALWAYS_THERE | ours:
            assert not at_top, f"line {line}: {name} must be imported inside the function that needs it"


def test_only_those_who_ask_for_it_import_scikit_learn() -> None:
    for path in FASTFNN_FILES:
        if room_of(path) != "sklearn":
            assert not [name for _, name, _ in imports(path) if name.split(".")[:2] == ["fastfnn", "sklearn"]], path


def test_completing_names_shows_the_public_ones_alone() -> None:
    names = {name for name in dir(fastfnn) if not name.startswith("__")}
    assert names == set(fastfnn.__all__)
    assert all(hasattr(fastfnn, name) for name in dir(fastfnn))
    assert {"Sequential", "fit", "callbacks"} <= names
    assert fastfnn.layers.Linear is fastfnn.Linear, "what is not completed is there all the same"
