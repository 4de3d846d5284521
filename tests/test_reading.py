"""Small files of text, and the parsers of a run's folder under thousands of damaged files: words, never a traceback."""

import os
import random
import shutil
from pathlib import Path

import pytest
import torch

from isosphere.errors import IsosphereError
from isosphere.reading import UnreadableError, parse_yaml, read_json, read_text, read_yaml
from isosphere.runs import RunFolder, read_metrics
from isosphere.training import load_config, parse_config, read_position, require_same_run

KEPT = Path(__file__).parent / "kept_run"


def test_regular_files_of_text_alone(tmp_path):
    (tmp_path / "text").write_text("ü", encoding="utf-8")
    assert read_text(tmp_path / "text") == "ü"
    os.mkfifo(tmp_path / "pipe")  # which nobody writes to: opening it would wait for ever
    (tmp_path / "bytes").write_bytes(b"ab\xff")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)
    for name, said in {
        "pipe": "it is no regular file",
        "/dev/zero": "it is no regular file",
        ".": "(directory|regular)",
        "absent": "no such file or directory",
        "bytes": r"it is no text in UTF-8 \(byte 2\)",
    }.items():
        with pytest.raises(UnreadableError, match=said):
            read_text(tmp_path / name)
    for read, said in ((read_yaml, "larger than 1 MiB"), (read_json, "larger than 64 MiB")):
        with pytest.raises(UnreadableError, match=said):
            read(tmp_path / "large")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x [1]\nb: *x", r"line 2, column 4: aliases \(\*name\) are not taken"),
        ("&x [*x]", "aliases"),
        ("seed: 2001-99-99", "month must be in 1..12"),
        ("[" * 1000, "nested too deeply"),
        ("9" * 5000, "not valid YAML"),
        ("a: [", "line 1, column 5"),
        ("!!python/object/apply:os.mkdir [x]", "could not determine a constructor"),
    ],
)
def test_yaml_without_surprises(text, said):
    with pytest.raises(UnreadableError, match=said):
        parse_yaml(text)


@pytest.mark.parametrize("text", ["", "{", "[" * 10**6, "9" * 5000, "\udc80"])
def test_json_without_surprises(tmp_path, text):
    (tmp_path / "a").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UnreadableError):
        read_json(tmp_path / "a")


# --- damaged in thousands of ways -----------------------------------------------------------------------------

TOKENS = (
    *(
        b"[",
        b"{",
        b"]",
        b"}",
        b'"',
        b"'",
        b":",
        b",",
        b"\n",
        b"\r",
        b"\0",
        b"&a [*a]",
        b"*a",
        b"!!set",
        b"- ",
    ),
    *(b"null", b"true", b"nan", b".inf", b"NaN", b"1e999", b"-1", b"2001-99-99", b"0x", b"\xff", b"\xc2\xb2"),
    *(b"9" * 5000, b"[" * 3000, b"x" * 200_000, b"\xe2\x80\xae", b"~", b"? ", b"\t"),
)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The same with one to three wounds: a byte, a cut, a token put in, a part taken out or doubled."""
    for _ in range(chance.randint(1, 3)):
        i, j = sorted(chance.randint(0, len(content)) for _ in range(2))
        match chance.randint(0, 4):
            case 0:
                content = content[:i] + bytes([chance.randint(0, 255)]) + content[i + 1 :]
            case 1:
                content = content[:j]
            case 2:
                content = content[:i] + chance.choice(TOKENS) + content[i + chance.choice((0, 1, 4)) :]
            case 3:
                content = content[:i] + content[min(j, i + 40) :]
            case _:
                content = content[: min(j, i + 200)] + content[i:]
    return content


PARSERS = {
    "config.yaml": lambda folder: parse_config(folder.read_config()),
    "encoder.json": RunFolder.read_spec,
    "environment.json": RunFolder.read_environment,
    "evaluation.json": RunFolder.read_evaluation,
    "images.json": RunFolder.read_images,
    "metrics.csv": lambda folder: folder.open_metrics().rewind(3),
}


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    folder = RunFolder(shutil.copytree(KEPT, tmp_path / "r"))
    folder.write_environment()
    folder.write_images("pics", "/data/pics", 24, "0" * 64)
    return folder


@pytest.mark.parametrize("name", PARSERS)
def test_damaged_files_of_a_run_are_answered_in_words(folder, name):
    chance, path = random.Random(name), folder.path / name
    whole = path.read_bytes()
    for _ in range(150):
        path.write_bytes(content := damaged(whole, chance))
        try:
            PARSERS[name](folder)
        except IsosphereError:
            continue
        except Exception as error:
            raise AssertionError(f"{content[:2000]!r}") from error


def test_damaged_rows_of_figures_are_left_out(folder):
    folder.metrics.write_text(
        "epoch,step,total,seconds\n1,1,2.5,1\n1,\u00b2,2.5,1\n1,x,2.5,1\n1,2,,slow\n1,-3,2,1\n2,4,2.25,2\n",
        "utf-8",
    )
    assert [row["step"] for row in read_metrics(folder.metrics)] == ["1", "4"]


def test_damaged_settings_are_answered_in_words():
    chance = random.Random(0)
    for _ in range(300):
        key = chance.choice(
            ["train.seed=3", "views.scale=[0.5,1]", "method.options={a: 1}", "optim.clip=1.0"]
        )
        text = damaged(key.encode(), chance).decode("utf-8", "replace")
        try:
            load_config(None, [text])
        except IsosphereError:
            continue
        except Exception as error:
            raise AssertionError(repr(text[:2000])) from error


POSITION = {
    "epoch": 1,
    "batch": 0,
    "step": 3,
    "images": 24,
    "elapsed": 1.0,
    "sums": {"total": 1.0, "count": 1.0},
}
WHOLE = {
    "format": 1,
    "method": {},
    "optimizer": {},
    "position": POSITION,
    "random": {},
    "facts": {"images": 24},
}


@pytest.mark.parametrize("content", [None, 3, [], {}, {"format": 2}, {"format": [1]}])
def test_checkpoints_of_another_kind(tmp_path, content):
    torch.save(content, tmp_path / "c")
    with pytest.raises(IsosphereError, match="is of another format"):
        read_position(tmp_path / "c")


def test_checkpoints_with_damaged_parts(tmp_path):
    torch.save(WHOLE, tmp_path / "c")
    assert read_position(tmp_path / "c").step == 3
    wrong = [{name: bad} for name in WHOLE if name != "format" for bad in (None, 3, [1])]
    wrong += [
        {"position": {**POSITION, name: bad}} for name in POSITION for bad in (None, "x", -1, float("nan"))
    ]
    wrong += [{"position": {"step": 3}}, {"position": {**POSITION, "more": 1}}]
    for changes in wrong:
        torch.save({**WHOLE, **changes}, tmp_path / "c")
        for read in (read_position, lambda path: require_same_run(path, {"images": 24})):
            with pytest.raises(IsosphereError, match="is damaged"):
                read(tmp_path / "c")


def test_checkpoints_of_damaged_bytes(tmp_path):
    torch.save({**WHOLE, "method": {"w": torch.zeros(50)}}, tmp_path / "c")
    whole, chance = (tmp_path / "c").read_bytes(), random.Random(1)
    for _ in range(80):
        (tmp_path / "c").write_bytes(damaged(whole, chance))
        try:
            read_position(tmp_path / "c")
        except IsosphereError:
            continue
