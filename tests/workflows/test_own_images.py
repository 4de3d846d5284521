"""The images that a run was trained on: known again wherever they lie, and others are not taken for them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import isosphere
from isosphere.errors import RunError, UsageError
from isosphere.workflows._advice import longer
from isosphere.workflows._splits import changed_images, own_images

from .conftest import QUICK, pixels


@pytest.fixture(scope="module")
def trained(tmp_path_factory, folder) -> Path:
    """A folder with ``pics`` and ``run``, which was trained on them by that name."""
    root = tmp_path_factory.mktemp("own")
    shutil.copytree(folder, root / "pics")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        isosphere.train("pics", "run", **QUICK)
    return root


@pytest.fixture
def here(trained, tmp_path, monkeypatch) -> Path:
    """A copy of that folder, at another place, which is the current one; the images of the first are hidden."""
    shutil.copytree(trained, tmp_path / "copy")
    record = tmp_path / "copy" / "run" / "images.json"
    record.write_text(record.read_text().replace(str(trained), str(tmp_path / "gone")))
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def test_a_run_says_what_it_was_trained_on(trained):
    record = json.loads((trained / "run" / "images.json").read_text())
    assert record | {"fingerprint": ""} == {
        "source": "pics",
        "location": str((trained / "pics").resolve()),
        "count": 24,
        "fingerprint": "",
    }


def test_its_images_are_found_from_a_folder_with_others_of_that_name(trained, tmp_path, monkeypatch):
    (tmp_path / "pics").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "pics" / "other.png")
    monkeypatch.chdir(tmp_path)
    run = isosphere.load(trained / "run", device="cpu", cache=False)
    assert own_images(run) == str((trained / "pics").resolve())
    assert changed_images(run, own_images(run)) is None
    page = run.report(out=tmp_path / "page.html", progress=False)
    assert "other.png" not in page.path.read_text()


def test_others_of_that_name_are_not_taken_for_them(here):
    run = isosphere.load("run", device="cpu", cache=False)
    assert own_images(run) == "pics"  # the same images at another place
    (here / "pics" / "00.png").unlink()
    with pytest.raises(
        UsageError, match=r"gone/pics, where there are none now, and .*copy/pics holds others: name"
    ):
        own_images(run)


def test_images_that_have_changed_since_are_named_in_an_evaluation(trained, tmp_path):
    Image.fromarray(pixels(25)[-1]).save(trained / "pics" / "later.png")
    try:
        run = isosphere.load(shutil.copytree(trained / "run", tmp_path / "run"), device="cpu", cache=False)
        quiet = {"tasks": "retrieval", "baselines": False, "cache": False, "progress": False}
        for found in (run.evaluate(**quiet), run.evaluate(trained / "pics", **quiet)):
            assert "have changed since the training" in found.notes[0]
    finally:
        (trained / "pics" / "later.png").unlink()


def test_advice_names_the_images_where_they_are_now_and_can_be_pasted(here):
    quiet = {"tasks": "retrieval", "baselines": False, "cache": False, "progress": False}
    run = isosphere.load("run", device="cpu", cache=False)
    again = 'isosphere.train("{}", out="run", resume=True, epochs=334)'  # 3 steps an epoch: 1,000 in all
    assert again.format("pics") in run.evaluate("pics", **quiet).summary()
    (here / "pics").rename(here / "moved")
    assert again.format("moved") in run.evaluate("moved", **quiet).summary()
    (here / "others").mkdir()
    for name in ("00.png", "01.png"):
        shutil.copy(here / "moved" / name, here / "others")
    assert again.format("DATA") in run.evaluate("others", test="moved", **quiet).summary()
    minutes = replace(run, config=run.config.replace(train={"epochs": None, "minutes": 1.5}))
    assert longer(minutes, "moved") == again.format("moved").replace("epochs=334", "minutes=500")


def test_moved_images_are_gone_on_with_and_other_ones_are_not(here):
    (here / "pics").rename(here / "moved")
    longer = {"resume": True, "progress": False, "device": "cpu"}
    assert isosphere.train("moved", "run", epochs=2, **longer).config.train.epochs == 2
    assert json.loads((here / "run" / "images.json").read_text())["location"] == str(
        (here / "moved").resolve()
    )
    config = (here / "run" / "config.yaml").read_bytes()
    Image.fromarray(pixels(25)[-1]).save(here / "moved" / "00.png")
    with pytest.raises(
        RunError, match=r'made with other images .* init="run/encoder.safetensors" with another out'
    ):
        isosphere.train("moved", "run", epochs=3, **longer)
    (here / "moved" / "00.png").rename(here / "moved" / "zz.png")
    with pytest.raises(RunError, match="made with other images"):
        isosphere.train("moved", "run", epochs=3, **longer)
    assert (here / "run" / "config.yaml").read_bytes() == config
