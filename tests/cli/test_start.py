"""What a command imports before its work, what a terminal shows meanwhile, and what a shell completes."""

import os
import subprocess
import sys

import pytest

from tests.deploy.conftest import train_tiny

SLOW = ("lightning", "timm", "torchvision", "scipy", "sklearn", "matplotlib", "tensorboard", "jinja2")

CODE = f"""
import sys
from isosphere.cli import main
codes = [main(words.split()) for words in (
    "embed run pics --out e.npz", "search run pics/0.png --in pics -k 2", "dedup run pics --threshold 0.99")]
print(codes, [name for name in {SLOW!r} if name in sys.modules], file=sys.stderr)
"""


def test_search_embed_and_dedup_import_nothing_that_they_do_not_need(tmp_path):
    from PIL import Image

    from tests.workflows.conftest import pixels

    (tmp_path / "pics").mkdir()
    for i, picture in enumerate(pixels(12)):
        Image.fromarray(picture).save(tmp_path / "pics" / f"{i}.png")
    train_tiny(tmp_path / "run", tmp_path / "pics")
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "[0, 0, 0] []", done.stderr


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import isosphere", ("torch", "numpy", "pydantic", "rich", *SLOW)),
        ("import isosphere.cli", ("torch", "numpy", "pydantic", *SLOW)),
        ("import isosphere; isosphere.load", SLOW),
        ("import isosphere.methods, isosphere.models, isosphere.training", SLOW),
    ],
)
def test_an_import_loads_what_it_needs(code, heavy):
    code = f"import sys; {code}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_terminal_does_not_stay_empty_while_torch_is_imported(monkeypatch, capsys):
    from isosphere.cli.starting import after_loading

    monkeypatch.setattr(sys, "modules", {k: v for k, v in sys.modules.items() if k != "torch"})
    command = after_loading(lambda: print("done") or 0)
    assert command() == 0
    assert capsys.readouterr() == ("done\n", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert command() == 0
    assert capsys.readouterr() == ("done\n", "Starting ...\r            \r")


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("isosphere sea", ["search"]),
        ("isosphere list en", ["encoders"]),
        ("isosphere embed run pics --layer ba", ["backbone"]),
    ],
)
def test_a_shell_can_complete_a_line(typed, found):
    asked = {"_ISOSPHERE_COMPLETE": "complete_bash", "COMP_WORDS": typed}
    asked["COMP_CWORD"] = str(len(typed.split(" ")) - 1)
    done = subprocess.run(
        [sys.executable, "-m", "isosphere"],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == found


def test_what_is_loaded_is_not_looked_through_for_garbage():
    program = """
import gc
passes = []
gc.callbacks.append(lambda phase, info: passes.append(info["generation"]))
from isosphere.cli.starting import after_loading
before = len(passes)
after_loading(lambda: print(len(passes) - before, gc.isenabled(), gc.get_freeze_count() > 100_000))()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0 True True\n", "")
