"""What README shows can be typed."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from isosphere.cli import app

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = "\n".join(re.findall(r"```\n(.*?)```", README, re.DOTALL))
COMMANDS = re.findall(r"^(isosphere [^#\n]+)", SHELL, re.MULTILINE)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda s: s.splitlines()[-1][:30])
def test_python_snippets_run(snippet, capsys):
    exec(compile(snippet, "README.md", "exec"), {})
    assert "Error" not in capsys.readouterr().err


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
