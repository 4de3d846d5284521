"""What README and the pages of docs show can be typed."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import lightning  # noqa: F401  (its log writes to the stream of its import, which is closed after a test)
import pytest
import typer.main

from isosphere.cli import app
from isosphere.training import known_keys

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text()
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
SNIPPETS = [
    pytest.param(snippet, id=f"{page.stem}: {snippet.splitlines()[-1][:30]}")
    for page in PAGES
    for snippet in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
]


def commands(page: Path) -> list[str]:
    """What a page says to type: lines of its shell blocks, and what stands as code within its text and tables."""
    text = page.read_text()
    typed = "\n".join(re.findall(r"^```(?:sh)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    lines = re.findall(r"^(?:[A-Z_]+=\S+ )*(isosphere [^#\n]+)", typed, re.MULTILINE)
    return lines + re.findall(r"`(isosphere [^`\n]+)`", text)


COMMANDS = [
    pytest.param(command, id=f"{page.stem}: {command[:50]}")
    for page in PAGES
    for command in dict.fromkeys(commands(page))
]


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
    words = shlex.split(command.partition(" > ")[0])
    if words[1].startswith("-") or not words[1].islower():
        return  # isosphere --install-completion; isosphere COMMAND --help
    known = typer.main.get_command(app).commands[words[1]]
    options = {o for p in known.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    assert {w.partition("=")[0] for w in words[2:] if w.startswith("-")} <= options
    keys = {value.partition("=")[0] for flag, value in pairwise(words) if flag == "--set"}
    assert {key for key in keys if not key.startswith("method.options.")} <= set(known_keys())


def test_readme_is_short():
    assert len(README.split()) < 900


def test_what_is_on_no_index_is_not_fetched_from_one():
    """isosphere is on no package index: it is installed from a checkout."""
    for page in PAGES:
        assert not re.search(r"pip install [\"']?isosphere", page.read_text()), page


def test_make_knows_the_two_commands():
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
