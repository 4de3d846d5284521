"""The house: who may import whom, what an import of a part may load, and whether docstrings point at what is there."""

import ast
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "isosphere"

# The folders that each folder imports: exactly these, beside everybody's.
IMPORTS = {
    "sphere": set(),
    "reductions": set(),
    "kernels": {"sphere"},
    "statistics": {"sphere", "reductions"},
    "discrepancies": {"sphere", "reductions", "kernels"},
    "models": {"reductions", "statistics"},  # batch norm over ranks, features in the metric of their views
    "methods": {"sphere", "reductions", "kernels", "statistics", "discrepancies", "models"},
    "data": set(),
    "runs": set(),
    "training": {"methods", "models", "data", "runs", "statistics", "reductions"},
    "evaluation": {"models", "data", "runs", "statistics", "reductions"},
    "deploy": {"models", "data", "runs", "reductions", "evaluation"},
    "report": {"sphere", "reductions", "statistics", "runs", "evaluation"},
    # What a person asks for, once for Python and for the command line.
    "workflows": {
        *{"training", "evaluation", "deploy", "report", "data", "runs", "models"},
        *{"methods", "discrepancies", "statistics", "reductions"},
    },
    # A page on a collection; the bundle that it shows is built from web/.
    "explore": {
        *{"workflows", "deploy", "evaluation", "report", "data", "runs"},
        *{"statistics", "reductions", "sphere"},
    },
    "ray": {"workflows", "deploy", "data", "runs"},  # workers load a run and embed
    "cli": {
        *{"explore", "ray", "workflows", "training", "deploy", "report", "data", "runs"},
        *{"models", "methods", "discrepancies", "reductions"},
    },
}
EVERYBODYS = {"addresses", "devices", "errors", "atomic", "reading", "seeds", "tabular", "threads"}


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


@pytest.mark.parametrize("folder", IMPORTS)
def test_a_folder_imports_exactly_these(folder):
    found = set().union(*(imported_folders(path) for path in (SOURCE / folder).rglob("*.py")))
    assert found - EVERYBODYS - {folder, "__version__"} == IMPORTS[folder]


def test_imports_point_one_way():
    order: list[str] = []
    while len(order) < len(IMPORTS):
        ready = [name for name in IMPORTS if name not in order and set(order) >= IMPORTS[name]]
        assert ready, f"a circle among {IMPORTS.keys() - set(order)}"
        order += ready


def test_every_folder_has_a_rule():
    folders = {p.name for p in SOURCE.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert folders == IMPORTS.keys()


def imported_modules(path: Path) -> set[str]:
    """Modules of isosphere that a module imports by name, with those that it imports only for its types or later."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    found = {
        node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    found |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name for name in found if name.startswith("isosphere.")}


def test_other_folders_are_met_at_their_faces():
    """`from isosphere.data import Source`, never from a module within: what a face does not show can be changed."""
    deep = []
    for path in sorted(SOURCE.rglob("*.py")):
        own = path.relative_to(SOURCE).parts[0]
        for name in sorted(imported_modules(path)):
            folder = name.split(".")[1]
            if name.count(".") > 1 and folder != own:
                deep.append(f"{path.relative_to(SOURCE)}: {name}")
    assert deep == []


def test_modules_behind_a_face_are_private():
    public = {
        str(path.relative_to(SOURCE))
        for folder in IMPORTS.keys() - {"cli"}
        for path in (SOURCE / folder).rglob("*.py")
        if not path.name.startswith("_") and path.parent.name != "tasks"
    }
    assert public == set()


def test_no_circle_within_a_folder():
    """Modules of a folder import each other one way, at the top or later."""
    for folder in IMPORTS:
        paths = {
            p: ".".join(p.relative_to(SOURCE.parent).with_suffix("").parts)
            for p in (SOURCE / folder).rglob("*.py")
        }
        names = {name: path for path, name in paths.items() if path.name != "__init__.py"}
        imports = {name: imported_modules(path) & names.keys() for name, path in names.items()}
        while imports:
            free = [name for name, needed in imports.items() if not needed & imports.keys()]
            assert free, f"a circle among {sorted(imports)}"
            imports = {name: needed for name, needed in imports.items() if name not in free}


def test_the_command_line_is_thin():
    """Parse, call a workflow, print: what takes more belongs to a workflow."""
    lengths = {p.name: len(p.read_text().splitlines()) for p in (SOURCE / "cli").glob("*.py")}
    assert {name: n for name, n in lengths.items() if n > 140} == {}


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


ELSEWHERE = """
import os, pkgutil, signal, sys
from pathlib import Path

import lightning.fabric, timm, torch, torchvision, typer  # theirs are their own business
import torch.distributed.elastic.agent.server.local_elastic_agent

for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
lacking = (
    (os, ("O_NOFOLLOW", "O_CLOEXEC", "O_DIRECTORY", "O_NONBLOCK", "fork", "sysconf", "geteuid", "sched_getaffinity")),
    (signal, ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGXFSZ", "SIGALRM", "SIGCHLD", "SIGPIPE", "pthread_sigmask")),
)
for module, names in lacking:
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
import isosphere

for found in pkgutil.walk_packages(isosphere.__path__, "isosphere."):
    if not found.name.endswith("__main__"):
        __import__(found.name)
from isosphere.atomic import append_text, locked, write_text

with locked(Path(".a.lock"), "a is being written", "wait"):
    write_text(Path("a"), "1")
    append_text(Path("a"), "2")
print(sorted(os.listdir()), Path("a").read_text())
"""


def test_every_module_can_be_imported_where_posix_is_lacking(tmp_path):
    """As on Windows and macOS, as far as that can be had here: without fcntl, O_NOFOLLOW and their like."""
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "['a'] 12\n"), done.stderr


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
