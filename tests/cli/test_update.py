"""``isosphere update`` as it is typed, and the commands that then look at all images."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isosphere.runs import RunFolder
from isosphere.tabular import csv_rows
from isosphere.workflows._collection import Collection

from .conftest import paint


@pytest.fixture
def trained(run, classes, quick, tmp_path):
    shutil.copytree(classes, tmp_path / "work" / "pics")
    done = run("train", "pics", "--out", "r", *quick)
    assert done.code == 0, done.err
    return "r"


def test_the_images_of_the_training_are_looked_at_where_none_are_named(run, trained):
    shutil.copy("pics/red/1.png", "copy.png")
    found = run("search", trained, "copy.png")
    assert "Like copy.png among 60 images" in found.out
    assert "itself  red    red/1.png" in found.out  # by its content, whatever its name
    assert run("dedup", trained).code == 0
    Path("pics").rename("elsewhere")
    lacking = run("search", trained, "copy.png")
    assert (lacking.code, lacking.err) == (
        2,
        "isosphere: Missing option '--in'. Type: isosphere search r copy.png --in PICTURES\n",
    )
    assert run("dedup", trained).code == 2


def test_new_images_are_said_compared_and_looked_at_by_the_other_commands(run, trained, tmp_path):
    for i in range(100, 112):
        paint(tmp_path / "work" / "new" / f"{i}.png", 10, i)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save("new/noise.png")
    shutil.copy("pics/red/1.png", "new/copy.png")
    planned = run("update", trained, "new", "--dry-run")
    assert planned.code == 0, planned.err
    assert "60 as before, 14 new" in planned.out
    assert "time  about" in planned.out
    assert not (tmp_path / "work" / "r" / "collection.safetensors").exists()

    done = run("update", trained, "new", "--out", "foreign.html")
    assert done.code == 0, done.err
    assert "to embed   74 images" in done.out
    assert "time  about" in done.out
    assert "compared  14 new images with 60 so far: MMD^2" in done.out
    listed = done.out[done.out.index("The most foreign new images") :].splitlines()
    assert listed[2].split()[0] == "new/noise.png"
    assert "copies" in done.out
    assert "new/noise.png" in (tmp_path / "work" / "foreign.html").read_text()

    found = json.loads(run("search", trained, "new/noise.png", "--json", "-k", "1").out)
    assert found["images"] == 74
    assert found["matches"][0]["path"] == "new/noise.png"
    groups = json.loads(run("dedup", trained, "--json").out)
    assert groups["images"] == 74
    assert ["new/copy.png", "pics/red/1.png"] in [
        sorted(x["path"] for x in group) for group in groups["groups"]
    ]
    recorded = Collection.read(RunFolder(tmp_path / "work" / "r"))
    assert recorded.thresholds[groups["layer"]] == pytest.approx(groups["threshold"])
    anew = json.loads(run("update", trained, "new", "--json", "--restart").out)
    rows = csv_rows(run("update", trained, "new", "--csv", "--restart").out)
    assert rows[0] == ["path", "distance", "beyond", "nearest", "similarity"]
    assert [row[0] for row in rows[1:]][:3] == [each["path"] for each in anew["foreign"][:3]]
    assert anew["threshold"].keys() == recorded.thresholds.keys()
    exported = run("explore", trained, "--export", "page", "--map", "pca")
    assert exported.code == 0, exported.err

    again = run("update", trained)
    assert again.code == 0
    assert again.out.startswith("Nothing has changed: 74 images, as before.\n")
    assert json.loads(run("update", trained, "--json").out)["images"] == 74


def test_a_run_that_was_trained_goes_on_beside_itself(run, trained, tmp_path):
    for i in range(100, 112):
        paint(tmp_path / "work" / "new" / "red" / f"{i}.png", 120, i)
    lacking = run("update", trained, "new", "--refit")
    assert (lacking.code, lacking.err) == (
        2,
        "isosphere: r was trained: say for how long it goes on, --epochs 10.\n",
    )
    before = (tmp_path / "work" / "r" / "encoder.safetensors").read_bytes()
    Path("new/red/broken.png").write_bytes(Path("new/red/100.png").read_bytes()[:60])
    done = run("update", trained, "new", "--epochs", "1")
    assert done.code == 0, done.err
    assert "Makes r@2 of them; r stays as it is." in done.out
    assert "version      r@2, of 72 images; r is as it was" in done.out
    assert "of the 20 nearest are kept, among 72 images" in done.out
    assert "k-NN on 60 labelled images" in done.out
    assert (tmp_path / "work" / "r" / "encoder.safetensors").read_bytes() == before
    found = json.loads(run("search", "r@2", "new/red/100.png", "--json").out)
    assert (found["images"], found["matches"][0]["path"]) == (72, "new/red/100.png")
    record = json.loads((tmp_path / "work" / "r@2" / "version.json").read_text())
    assert (record["of"], record["images"]) == ("r", 72)


def test_it_is_said_what_is_wrong(run, trained):
    wrong = run("update", trained, "nowhere")
    assert wrong.code == 2
    assert "There is no file or folder nowhere" in wrong.err
    swapped = run("update", "pics", trained)
    assert "the run comes first. Type: isosphere update r pics" in swapped.err
    shutil.move("pics", "gone")
    lost = run("update", trained, "gone")
    assert (lost.code, lost.err) == (
        2,
        "isosphere: r does not know where the images so far are: name them, isosphere update r NEW --old DATA\n",
    )
