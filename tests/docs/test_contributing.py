"""The worked examples of CONTRIBUTING, typed into a copy of the tree: what is said to work works."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
SECTIONS = {
    part.partition("\n")[0].strip(): part
    for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)
    if part.startswith("Add a") and "```python" in part
}
FOLDERS = ("src", "tests/kernels", "tests/methods", "tests/data", "tests/workflows")
WITHOUT = shutil.ignore_patterns("__pycache__", "static", "kept_run")


def blocks(section: str) -> list[tuple[str, str]]:
    """Kind and text of each fenced block, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def change(tree: Path, text: str) -> None:
    """Apply a hunk: its lines without ``+`` stand in the file once, and give way to those without ``-``."""
    name, _, hunk = text.removeprefix("--- ").partition("\n")
    lines = hunk.splitlines()
    before = "\n".join(line[1:] for line in lines if line[0] in " -")
    after = "\n".join(line[1:] for line in lines if line[0] in " +")
    file = tree / name
    content = file.read_text()
    assert content.count(before) == 1, (
        f"CONTRIBUTING speaks of lines that {name} does not have once: {before}"
    )
    file.write_text(content.replace(before, after))


def copy_of_the_tree(to: Path) -> Path:
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, to / folder, ignore=WITHOUT)
    for file in [ROOT / "pyproject.toml", *(ROOT / "tests").glob("*.py")]:
        shutil.copy(file, to / file.relative_to(ROOT))
    return to


def test_there_is_an_example_of_each():
    assert [name.split()[2] for name in SECTIONS] == ["kernel", "method", "format", "task"]


@pytest.mark.parametrize("name", SECTIONS)
def test_an_example_works_as_it_is_typed(name, tmp_path):
    tree = copy_of_the_tree(tmp_path / "tree")
    commands, written = [], []
    for kind, text in blocks(SECTIONS[name]):
        if kind == "python":
            path = tree / text.partition("\n")[0].removeprefix("# ")
            assert not path.exists()
            path.write_text(text.partition("\n")[2])
            written.append(path)
        elif kind == "diff":
            change(tree, text)
        else:
            commands += text.splitlines()
    assert len(written) == 2  # what is added, and its test
    tidy = [sys.executable, "-m", "ruff"]
    config = ["--config", str(ROOT / "pyproject.toml")]
    for check in (["check"], ["format", "--check", "--diff"]):
        done = subprocess.run([*tidy, *check, *config, *written], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    env = os.environ | {
        "PYTHONPATH": str(tree / "src"),
        "OMP_NUM_THREADS": "1",
        "ISOSPHERE_CACHE": str(tmp_path),
    }
    for command in commands:
        words = shlex.split(command)
        quiet = ["-p", "no:cacheprovider"] if words[0] == "pytest" else []
        typed = [sys.executable, "-m", *words, *quiet]
        done = subprocess.run(typed, cwd=tree, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
