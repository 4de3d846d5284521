"""What a person types to name images, right and wrong."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from isosphere.data import BUILTIN, FORMATS, describe_formats, open_source
from isosphere.data._arrays import ArraySource
from isosphere.data._folder import FolderSource
from isosphere.data._zipped import ZipSource

from .conftest import refusal


def test_kinds_are_told_apart(make_folder, tmp_path, monkeypatch):
    folder = make_folder(["cat/a.png", "dog/b.png"])
    assert isinstance(open_source(folder), FolderSource)
    assert isinstance(open_source(str(folder) + "/"), FolderSource)
    assert open_source(folder).name == "pictures"
    archive = Path(shutil.make_archive(str(tmp_path / "pack"), "zip", folder))
    assert isinstance(open_source(archive), ZipSource)
    unnamed = archive.rename(tmp_path / "pack.bin")
    assert isinstance(open_source(unnamed), ZipSource)
    monkeypatch.chdir(folder)
    assert open_source(".").name == "pictures"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(open_source("~/pictures")) == 2
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert len(open_source(link)) == 2


def test_built_in_names_win_over_files(tmp_path, monkeypatch, make_folder):
    pytest.importorskip("sklearn")
    make_folder(["a.png"], under="digits")
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_source("digits"), ArraySource)
    assert isinstance(open_source("./digits"), FolderSource)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("digit", "'digits'"),
        ("wood", "'textures:wood'"),
        ("texture", "'textures:"),
        ("texture:wood", "'textures:wood'"),
        ("torchvison:CIFAR10", "'torchvision:CIFAR10:PATH'"),
        ("CIFAR10", "'torchvision:CIFAR10:PATH'"),
        ("picturs", "'pictures'"),
        ("./picturs", "'pictures'"),
        ("pictures/b.png", "'pictures/a.png'"),
    ],
)
def test_the_nearest_name_is_offered(typed, offered, tmp_path, monkeypatch, make_folder):
    make_folder(["a.png"])
    monkeypatch.chdir(tmp_path)
    message = refusal(typed)
    assert f"There is no file or folder {typed} in {tmp_path}" in message
    assert f"Did you mean {offered}" in message
    assert (
        "Give a folder of images, WebDataset shards (.tar), an .npz or .npy of arrays, an .h5 of arrays (HDF5), a zip "
        "of a folder, Parquet of encoded images, a pattern of image files ('pictures/*.jpg'), a list of files (.txt, "
        ".csv), an address of shards, Parquet or images (s3://, gs://, hf://, https://), an image file, or a built-in: "
        "textures:" in message
    )


def test_other_wrong_names(make_folder, tmp_path):
    assert "No data were named" in refusal("")
    assert "No data were named" in refusal(" ")
    assert "Did you mean" not in refusal(tmp_path / "qqqqqqqqq")
    assert "cannot be opened (file name too long)" in refusal("x" * 5000)
    folder = make_folder(["a.png", "b.tar", "c.tar.gz"])
    assert "holds no images (b.tar: it is no tar file" in refusal(folder / "b.tar")
    assert "Unpack it (tar -xf FILE)" in refusal(folder / "c.tar.gz")
    (folder / "notes.md").write_text("about these")
    assert "npack" not in refusal(folder / "notes.md")
    (folder / "a.dcm").write_bytes(bytes(99))
    assert refusal(folder / "a.dcm").endswith(
        "a.dcm is an image of another format: .dcm is not read here: convert it to .png or .jpg."
    )
    packed = make_folder(["a.h5", "b.tar.gz"], under="packed")
    assert "2 files of other kinds (1 x .gz, 1 x .h5). To read one of its files, give" in refusal(packed)
    assert "holds no images: it holds no files" in refusal(make_folder([], under="empty"))
    with pytest.raises(ValueError, match="split is 'val'"):
        open_source(folder, split="val")  # pyright: ignore[reportArgumentType]


QUICKSTART = Path(__file__).parent.parent.parent / "docs" / "quickstart.md"


@pytest.mark.parametrize("each", FORMATS, ids=lambda each: each.name)
def test_every_format_is_described_wherever_formats_are(each, tmp_path):
    assert re.search(rf"\b{each.name}\b", QUICKSTART.read_text()), f"quickstart.md does not name {each.name}"
    assert each.about in describe_formats()
    for message in (refusal(""), refusal(tmp_path / "qqqqqqqqq"), refusal(sys.executable)):
        assert describe_formats() in message
    assert each.names.items() <= BUILTIN.items()


def test_every_built_in_is_described():
    assert {"digits", "textures:wood", "textures:all", "torchvision:CIFAR10:PATH"} <= set(BUILTIN)
    assert all(BUILTIN.values())


def test_opening_textures_loads_neither_torchvision_nor_scikit_learn(tmp_path):
    code = (
        "import sys; from isosphere.data import open_source; "
        "open_source('textures:disk?count=2&size=16', split='train'); "
        "print([m for m in ('torchvision', 'sklearn', 'scipy', 'lightning') if m in sys.modules])"
    )
    environment = {**os.environ, "ISOSPHERE_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
