"""The house: who may import whom, what an import of a part may load, and whether docstrings point at what is there."""

import ast
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "isosphere"

# A folder may import those on its right; `errors` and `atomic` are everybody's, `cli` may import all.
ALLOWED = {
    "sphere": set(),
    "reductions": set(),
    "kernels": {"sphere"},
    "statistics": {"sphere", "reductions"},
    "discrepancies": {"sphere", "reductions", "kernels"},
    "models": {"reductions"},  # batch norm over ranks
    "methods": {"sphere", "reductions", "kernels", "statistics", "discrepancies", "models"},
    "data": set(),
    "runs": {"models", "methods"},
    "training": {"methods", "models", "data", "runs", "reductions", "statistics"},
    "evaluation": {"sphere", "discrepancies", "models", "data", "runs", "statistics", "reductions"},
    "deploy": {"models", "data", "runs", "statistics", "reductions", "evaluation"},
    "report": {"sphere", "reductions", "statistics", "data", "runs", "evaluation"},
    "workflows": {"methods", "models", "data", "runs", "training", "evaluation", "deploy", "report"},
}


def imported_folders(path: Path) -> set[str]:
    """Folders of isosphere that a module imports, absolutely or relatively."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(path.relative_to(SOURCE).parent.parts)
            prefix = ["isosphere", *base[: len(base) - node.level + 1]] if node.level else []
            stem = ".".join([*prefix, *(node.module or "").split(".")]).rstrip(".")
            names = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("isosphere.")}
    return found


@pytest.mark.parametrize("folder", ALLOWED)
def test_dependencies_point_one_way(folder):
    for path in sorted((SOURCE / folder).rglob("*.py")):
        foreign = imported_folders(path) - ALLOWED[folder] - {folder, "errors", "atomic", "__version__"}
        assert not foreign, f"{path.relative_to(SOURCE)} may not import {sorted(foreign)}"


def test_every_folder_has_a_rule():
    folders = {p.name for p in SOURCE.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert folders == ALLOWED.keys() | {"cli"}


@pytest.mark.parametrize("part", ["sphere", "kernels", "reductions", "statistics", "discrepancies"])
def test_the_mathematics_loads_torch_and_numpy_alone(part):
    heavy = [
        "torchvision",
        "timm",
        "lightning",
        "pydantic",
        "typer",
        "rich",
        "scipy",
        "sklearn",
        "PIL",
        "matplotlib",
    ]
    code = f"import sys, isosphere.{part}; print(*[m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


REFERENCE = re.compile(r":(?:attr|class|func|meth|mod):`~?([\w.]+)`")


def methods_of(source: str) -> set[str]:
    """Methods of a module's classes: a class's docstring calls them by their bare names."""
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    return {item.name for c in classes for item in c.body if isinstance(item, ast.FunctionDef)}


def is_there(name: str, module: str) -> bool:
    """Whether a name can be reached from a module or, dotted, from the top."""
    for path in (f"{module}:{name}", name):
        try:
            pkgutil.resolve_name(path)
        except (ImportError, AttributeError):
            continue
        return True
    return False


def test_docstrings_refer_to_what_is_there():
    gone = []
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        module = ".".join(parts).removesuffix(".__init__")
        source = path.read_text()
        names = set(REFERENCE.findall(source)) - methods_of(source)
        gone += [f"{module}: {name}" for name in sorted(names) if not is_there(name, module)]
    assert gone == []
