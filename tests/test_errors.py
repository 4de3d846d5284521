"""What messages print: names that a terminal can be shown, commands that can be pasted."""

import json
import shlex
import subprocess

import pytest

from isosphere.errors import command, for_a_shell, nearest, option, printable, shell

NASTY = [
    "my pics",
    "two  blanks",
    "a;rm -rf x",
    "$(touch x)",
    "MY PICS",
    "it's",
    "a b...",
    "~nosuchuser",
    "back\\slash",
    'quo"te',
    "line\nbreak\ttab",
    "esc\x1b[31m",
    "csi\x9b31m",
    "bidi\u202egnp.exe",
    "half\udcff",
    "ümläut 猫",
]


@pytest.mark.parametrize("name", NASTY)
def test_commands_can_be_pasted(name):
    with for_a_shell():
        line = command("evaluate", name, out=name)
        key = option("data.source", name)
    assert printable(line) == line
    said = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line} {key}"], capture_output=True, check=True
    ).stdout
    words = [word.decode("utf-8", "surrogateescape") for word in said.split(b"\0")[:-1]]
    assert words == ["isosphere", "evaluate", name, "--out", name, "--set", f"data.source={name}"]


def test_a_name_like_an_option_is_none():
    with for_a_shell():
        assert command("train", "-x", out="-y") == "isosphere train ./-x --out -y"
    assert shlex.split(shell("-x y", "DATA")) == ["./-x y", "DATA"]


def test_what_was_meant_can_be_typed():
    assert nearest("pcis", ["pics"]) == " Did you mean 'pics'?"
    with for_a_shell():
        said = nearest("half.png", ["half\udcff.png"])
        assert option("k", 5) == "-k 5"
    assert said == r" Did you mean $'half\xff.png'?"
    assert option("k", 5) == "k=5"
    assert nearest("half.png", ["half\udcff.png"]) == r""" Did you mean "half\udcff.png"?"""


@pytest.mark.parametrize("name", NASTY)
def test_python_calls_hold_the_name_exactly(name):
    line = command("evaluate", name)
    assert printable(line) == line
    assert eval(line.removeprefix("isosphere.evaluate")) == name


def test_what_a_terminal_would_obey_is_written_out():
    assert printable("a\x1b[2Jb\u202ec\rd\ne\tf") == "a\\u001b[2Jb\\u202ec\\u000dd\\ne\\tf"
    assert printable("a\n\tb\x07", lines=True) == "a\n\tb\\u0007"
    assert printable("ümläut 猫 👩\u200d💻 فارسی") == "ümläut 猫 👩\u200d💻 فارسی"
    for name in NASTY:
        shown = printable(json.dumps(name, ensure_ascii=False), lines=True)
        assert json.loads(shown) == name
        shown.encode("utf-8")
