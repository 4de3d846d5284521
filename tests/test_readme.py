"""What README and the pages of docs show can be typed."""

import re
import shlex
from pathlib import Path

import lightning  # noqa: F401  (its log writes to the stream of its import, which is closed after a test)
import pytest
import typer.main

from isosphere.cli import app

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text()
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
SNIPPETS = [
    pytest.param(snippet, id=f"{page.stem}: {snippet.splitlines()[-1][:30]}")
    for page in PAGES
    for snippet in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
]
SHELL = "\n".join(re.findall(r"```\n(.*?)```", README, re.DOTALL))
COMMANDS = re.findall(r"^(isosphere [^#\n]+)", SHELL, re.MULTILINE)


@pytest.mark.parametrize("snippet", SNIPPETS)
@pytest.mark.filterwarnings("ignore::FutureWarning:lightning", "ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*deprecated:FutureWarning")
def test_python_snippets_run(snippet, capsys):
    exec(compile(snippet, "snippet", "exec"), {"__name__": "snippet"})
    assert "Error" not in capsys.readouterr().err


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_and_pictures_are_there(page):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    for target in targets:
        assert target.startswith("http") or (page.parent / target).exists(), target


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist_with_their_options(command):
    words = shlex.split(command)
    known = typer.main.get_command(app).commands[words[1]]
    options = {o for p in known.params for o in (*p.opts, *p.secondary_opts)}
    assert {w for w in words[2:] if w.startswith("-")} <= options


def test_make_knows_the_two_commands():
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
