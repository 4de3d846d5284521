"""The smaller commands, the help, and the ways out."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from isosphere import __version__
from isosphere.cli import COMMANDS, app, main, panels
from isosphere.errors import RunError, UsageError
from tests.zoo import zoo

ROOT = Path(__file__).resolve().parents[2]


def test_help_names_every_command(run):
    for words in (["--help"], ["-h"], []):
        done = run(*words)
        assert done.code == 0
        assert all(f" {command} " in done.out for command in COMMANDS)
    assert {command.name for command in app.registered_commands} == set(COMMANDS)


def test_commands_and_options_stand_in_panels(run):
    assert [name for names in panels.COMMANDS.values() for name in names] == list(COMMANDS)
    at = [done.out.index(f"{panel} ") for done in (run("--help"),) for panel in panels.COMMANDS]
    assert at == sorted(at)
    of_train = run("train", "--help").out
    assert of_train.index(" --out") < of_train.index(" Network ") < of_train.index(" --method")
    assert of_train.index(" Length ") < of_train.index(" --epochs") < of_train.index(" Machine ")
    known = {param.name for command in get_command(app).commands.values() for param in command.params}
    assert {name for names in panels.OPTIONS.values() for name in names} <= known
    assert " Output " not in run("bundle", "--help").out  # of a few options


def test_the_page_of_commands_lists_them_as_the_help_does():
    """Also where it is read without being built."""
    page, commands = (ROOT / "docs" / "commands.md").read_text(), get_command(app).commands
    for panel, names in panels.COMMANDS.items():
        first = [" ".join(commands[name].help.split("\n\n")[0].split()) for name in names]
        rows = [f"| `isosphere {name}` | {said} |" for name, said in zip(names, first, strict=True)]
        assert "\n".join([f"| {panel.lower()} | |", "|---|---|", *rows]) in page


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run, command):
    done = run(command, "--help")
    assert done.code == 0
    assert "Usage: isosphere " + command in done.out


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("evaluate", "RUN DATA"),
        ("probe", "RUN DATA..."),
        ("compare", "RUN..."),
        ("search", "RUN IMAGE..."),
        ("outliers", "RUN [DATA]..."),
        ("select", "RUN [DATA]..."),
        ("cluster", "RUN [DATA]..."),
        ("dedup", "RUN [DATA]..."),
        ("update", "RUN [NEW]..."),
        ("list", "[KIND] [TEXT]"),
    ],
)
def test_tables_are_printed_for_programs_too(run, command, usage):
    said = run(command, "--help").out
    assert f"Usage: isosphere {command} [OPTIONS] {usage}" in " ".join(said.split())
    assert {"--json", "--csv"} <= set(said.split())
    needed = ["-k", 5] if command == "select" else []
    both = run(command, *usage.replace("[KIND] [TEXT]", "tasks").split(), *needed, "--json", "--csv")
    assert (both.code, "--json and --csv: give one of them" in both.err) == (2, True), both.err


def test_version(run):
    assert run("--version").out == f"isosphere {__version__}\n"


@pytest.mark.parametrize(("typed", "meant"), [("trian", "train"), ("evalute", "evaluate"), ("lst", "list")])
def test_the_nearest_command_is_offered(run, typed, meant):
    done = run(typed, "x")
    assert done.code == 2
    assert f"Did you mean '{meant}'?" in done.err


def test_help_is_quick_because_nothing_heavy_is_loaded():
    program = (
        "import sys; from isosphere.cli import main; main(['--help']);"
        "sys.exit(' '.join({'torch', 'lightning', 'timm', 'numpy'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("error", [RunError("it broke\nhere"), UsageError("typed wrongly")])
def test_errors_become_one_paragraph_and_an_exit_code(run, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("isosphere.workflows._views.open_training_source", fail)
    done = run("views", "digits")
    assert done.code == error.exit_code
    assert done.err == "isosphere: " + str(error).replace("\n", " ") + "\n"


def test_a_fault_of_ours_is_one_paragraph_and_its_traceback_a_file(run, monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("isosphere.workflows._views.open_training_source", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = run("views", "digits", "--out", "a b.png")
    assert done.code == 1
    assert done.err.startswith(
        "isosphere: an unexpected ZeroDivisionError (a fault), a fault of isosphere itself."
    )
    assert done.err.count("\n") == 1
    (file,) = tmp_path.glob("isosphere-*.txt")
    assert f"is written in {file}: please report it" in done.err
    written = file.read_text()
    assert "isosphere views digits --out 'a b.png'" in written
    assert 'raise ZeroDivisionError("a fault")' in written
    monkeypatch.setenv("ISOSPHERE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["views", "digits"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("words", [["list", "presets"], ["--version"]])
def test_an_output_that_cannot_be_written_is_no_fault_of_ours(words):
    command = [sys.executable, "-m", "isosphere", *words]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = "isosphere: cannot write to standard output: no space left on device.\n"
    assert (done.stderr, done.returncode) == (said, 1)


@pytest.mark.parametrize("words", [["list", "presets"], ["--help"], ["--version"]])
def test_a_reader_who_has_gone_is_no_failure(words):
    """As after ``| head -1``; the code is the shell's for it."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "isosphere", *words]
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, text=True) as started:
        os.close(writer)
        assert (started.communicate(timeout=60)[1], started.returncode) == ("", 141)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("methods", "sphere-jepa"),
        ("discrepancies", "mmd-heat"),
        ("encoders", "resnet18"),
        ("datasets", "textures:wood"),
        ("recipes", "lejepa"),
        ("keys", "optim.learning_rate"),
    ],
)
def test_lists_have_one_plain_row_an_item_name_first(run, kind, name):
    done = run("list", kind)
    assert done.code == 0
    names = [line.split("\t")[0] for line in done.out.splitlines()]
    assert name in names
    assert len(names) == len(set(names))
    assert all(names)


def test_lists_can_be_narrowed(run):
    names = [line.split("\t")[0] for line in run("list", "encoders", "resnet1").out.splitlines()]
    assert "resnet18" in names
    assert all("resnet1" in name for name in names)
    assert run("list", "encoders", "nothing-like-this").code == 2


@pytest.mark.parametrize(("words", "said"), [(["methds"], "'methods'"), ([], "methods|discrepancies")])
def test_lists_of_what_is_not_there(run, words, said):
    done = run("list", *words)
    assert done.code == 2
    assert said in done.err


def test_views_show_pictures_before_and_after_and_say_what_was_decided(run, tmp_path):
    animals = zoo()
    (tmp_path / "set").mkdir()
    for i, kind in enumerate(("EXIF 6 JPEG", "wide", "RGBA PNG")):
        (tmp_path / "set" / f"{i}.{animals[kind].suffix}").write_bytes(animals[kind].body)
    done = run("views", tmp_path / "set", "--out", "v.png", "--recipe", "crops", "--set", "data.ground=black")
    assert done.code == 0
    said = " ".join(done.out.split())
    assert "1 of 3 images looked at is turned by EXIF" in said
    assert "has transparency, over #000000" in said
    assert "lies outside" in said or "whole picture" in said
    sheet = np.asarray(Image.open("v.png"))
    stored, read = sheet[20:116, 4:100], sheet[20:116, 108:204]
    # Stored it lies on its side: bars above and below; as read it stands upright.
    assert len(np.unique(stored[:12].reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(read[:12, 30:60].reshape(-1, 3), axis=0)) > 1


def test_views_are_drawn(run, classes):
    done = run("views", classes, "--out", "v.png", "--count", 3, "--set", "views.rotation=15")
    assert done.code == 0, done.err
    assert "crops" in done.out
    with Image.open("v.png") as sheet:
        assert sheet.size == (104 + 16 + 7 * 100, 16 + 3 * 100 + 4)
    assert "--overwrite" in run("views", classes, "--out", "v.png").err
    assert run("views", classes, "--out", "v.png", "--overwrite").code == 0
    assert "expected a name that ends in .png" in run("views", classes, "--out", "v.jpg").err
    assert run("views", classes, "--out", "new/v.png").code == 0


def test_doctor_trains_a_step(run):
    done = run("doctor")
    assert done.code == 0, done.err
    assert "a step of 128 images of 32 px takes" in done.out
    assert "Training works here." in done.out
