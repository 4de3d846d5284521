"""``isosphere adapt`` as it is typed, and ``timm:NAME`` in place of a run."""

import json

import numpy as np
import pytest
import timm
import torch

import isosphere.models._hub as hub
from isosphere.atomic import write_text
from isosphere.workflows import RECOMMENDED_NETWORKS, _adapt

NAME = "test_efficientnet"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "tiny.pth"
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        torch.save(timm.create_model(NAME, num_classes=10).state_dict(), file)
    return file


@pytest.fixture
def tiny(weights):
    return f"--encoder={NAME}", f"--init={weights}", "--image-size=32"


def test_a_folder_is_adapted_to_judged_and_searched(run, classes, tiny):
    made = run("adapt", classes, *tiny, "--out", "r")
    assert made.code == 0, made.err
    for said in ("60 of", "4 of each", "about ", "Adapted: ", f"isosphere evaluate r {classes}"):
        assert said in made.out
    judged = run("evaluate", "r", classes, "--no-cache")
    assert judged.code == 0, judged.err
    assert "adapted features" in judged.out
    assert run("evaluate", "r", classes, "--layer", "backbone", "--passes", 2).code == 0
    assert run("embed", "r", classes, "--out", "e.npz").out.count("adapted") == 1
    found = run("search", "r", classes / "blue" / "0.png", "--in", classes, "--json", "--passes", 2)
    assert json.loads(found.out)["matches"][0]["path"].endswith("0.png")
    assert run("dedup", "r", classes, "--json").code == 0
    assert "the adaptation is in --format onnx" in run("export", "r", "--format", "timm").out
    assert (
        "adapted and backbone"
        in run("search", "r", classes / "blue" / "0.png", "--in", classes, "--layer=wccn").err
    )
    page = run("report", "r")
    assert page.code == 0, page.err


def test_a_run_is_replaced_only_where_that_is_asked_for_and_nothing_was_trained(run, classes, tiny, quick):
    words = ("adapt", classes, *tiny, "--limit", 20, "--out", "r")
    assert run(*words).code == 0
    refused = run(*words)
    assert refused.code == 2
    said = " ".join(refused.err.split())
    assert "Add --overwrite to replace it: features of images that were seen are kept" in said
    again = run(*words, "--overwrite", "--views", 2)
    assert again.code == 0
    assert "2 of each" in again.out
    resumed = run("train", classes, *quick, "--out", "r", "--resume")
    assert resumed.code == 2
    assert "adapted, not trained" in resumed.err
    assert run("train", classes, *quick, "--epochs", 0, "--set=data.limit=20", "--out", "t").code == 0
    trained = run("adapt", classes, *tiny, "--out", "t", "--overwrite")
    assert trained.code == 2
    assert "was trained, which is not replaced" in trained.err


def test_files_that_cannot_be_read_are_counted_and_named(run, classes, tiny, tmp_path):
    (tmp_path / "data").mkdir()
    for i in range(6):
        (tmp_path / "data" / f"{i}.png").write_bytes((classes / "blue" / f"{2 * i}.png").read_bytes())
    for i in range(4):
        write_text(tmp_path / "data" / f"broken{i}.png", "no picture")
    made = run("adapt", tmp_path / "data", *tiny, "--out", "r")
    assert made.code == 0, made.err
    assert "4 files cannot be used and are left out: broken0.png" in made.out
    assert "4 views of each of 6 images" in made.out
    with open("r/left_out.txt") as file:  # noqa: PTH123
        assert len(file.readlines()) == 4
    strict = run("adapt", tmp_path / "data", *tiny, "--out", "s", "--strict")
    assert strict.code == 1
    assert "broken0.png" in strict.err


def test_an_interruption_says_what_is_kept(run, classes, tiny, monkeypatch):
    monkeypatch.setattr(_adapt, "_BLOCK", 16)
    seen, real = [], _adapt.rows_seen

    def stopping(source, positions, *args, **options):
        seen.append(len(positions))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return real(source, positions, *args, **options)

    monkeypatch.setattr(_adapt, "rows_seen", stopping)
    stopped = run("adapt", classes, *tiny, "--out", "r")
    assert stopped.code == 130
    assert "the features of 26 of 60 images are kept, and the same command goes on" in stopped.err
    monkeypatch.setattr(_adapt, "rows_seen", real)
    again = run("adapt", classes, *tiny, "--out", "r")
    assert again.code == 0
    assert "features of 26 images, from before" in again.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--encoder", "resnet81"), "Unknown encoder 'resnet81'. Did you mean"),
        (("--init", "nowhere.pth"), "no file 'nowhere.pth'"),
        (("--init", "random"), "has seen nothing"),
        (("--views", "1"), "--views: got 1, expected 2 or more"),
        (("--image-size", "4"), "image_size"),
        (("--vews", "3"), "No such option"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(run, classes, tiny, words, said):
    refused = run("adapt", classes, *tiny, *words, "--out", "r")
    assert refused.code == 2
    assert said in " ".join(refused.err.split())


def test_without_images_or_a_place_it_says_what_to_type(run, classes, tiny):
    assert "isosphere adapt" in run("adapt", classes, *tiny).err
    assert run("adapt", "--out", "r").code == 2
    assert run("adapt", "nowhere", "--out", "r").code == 2


def test_without_a_network_it_says_at_once_what_to_type(run, classes, monkeypatch):
    monkeypatch.setattr(hub, "_answers", lambda address: False)
    refused = run("adapt", classes, "--out", "r")
    assert refused.code == 1
    assert "--init FILE" in refused.err
    assert "no network" in refused.err
    named = run("embed", "timm:tf_efficientnet_lite0", classes, "--out", "e.npz")
    assert named.code == 1
    assert "timm:tf_efficientnet_lite0@FILE" in named.err
    assert "--init" not in named.err


def test_the_recommended_networks_are_named_in_the_help(run):
    text = run("adapt", "--help").out
    assert all(name in text for name in RECOMMENDED_NETWORKS)
    assert "Apache-2.0" in text


def test_a_network_is_taken_wherever_a_run_is(run, classes, weights, tmp_path):
    name = f"timm:{NAME}@{weights}"
    judged = run("evaluate", name, classes, "--limit", 12)
    assert judged.code == 0, judged.err
    assert f"isosphere adapt {classes} --encoder {NAME}" in judged.out
    assert str(tmp_path / "cache") in judged.out
    assert run("embed", name, classes, "--out", "e.csv").code == 0
    first = run("search", name, classes / "red" / "1.png", "--in", classes)
    assert "(60 embedded now)" in first.out
    assert "(as before)" in run("search", name, classes / "red" / "1.png", "--in", classes).out
    assert run("dedup", name, classes).code == 0
    assert run("export", name, "--format", "safetensors", "--out", "w.safetensors").code == 0
    assert run("report", name, "--data", classes, "--out", "r.html").code == 0
    assert "give --out" in run("report", name, "--data", classes).err


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_a_picture_of_other_bands_is_left_out_by_name(run, classes, tiny, tmp_path, kind):
    tifffile = pytest.importorskip("tifffile")
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(8):
        (folder / f"{i}.png").write_bytes((classes / "blue" / f"{2 * i}.png").read_bytes())
    bands = np.random.default_rng(0).integers(0, 255, (16, 16, 4)).astype(kind)
    tifffile.imwrite(folder / "nir.tif", bands, photometric="minisblack", planarconfig="contig")
    made = run("adapt", folder, *tiny, "--out", "r")
    assert made.code == 0, made.err
    for said in (made.out, run("embed", "r", folder, "--out", "e.npz").out):
        assert "left out: nir.tif (it has 4 bands, and 3 are expected (rgb))" in " ".join(said.split())
    sought = run("search", "r", folder / "nir.tif", "--in", folder)
    assert sought.code == 2
    assert "nir.tif has 4 bands, and 3 are expected" in " ".join(sought.err.split())
