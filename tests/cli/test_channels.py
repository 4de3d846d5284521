"""Pictures of thirteen bands of 16 bits through every command, by one run of two steps."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import isosphere
from isosphere.runs import RunFolder
from tests.zoo import banded, tiff

COUNT, BANDS = 32, 13
TINY = {
    "data.image_size": 16,
    "data.workers": 0,
    "train.epochs": 1,
    "train.batch_size": 16,
    "train.device": "cpu",
    "train.tensorboard": False,
}


def pictures(bands: int = BANDS) -> np.ndarray:
    """uint16 (n, 20, 20, bands), the second half brighter in the fifth band."""
    x = np.stack([banded(bands, 20, 100 * i).astype(np.uint16) * 12 for i in range(COUNT)])
    x[COUNT // 2 :, ..., min(4, bands - 1)] += 900
    return x


@pytest.fixture(scope="module")
def bands(tmp_path_factory):
    """A folder with the set of thirteen bands, one of four, and a run."""
    root = tmp_path_factory.mktemp("bands")
    np.savez(root / "thirteen.npz", x_train=pictures(), y_train=np.arange(COUNT) // (COUNT // 2))
    np.savez(root / "four.npz", x=(pictures(4) // 16).astype(np.uint8))
    isosphere.train(root / "thirteen.npz", out=root / "run", set=TINY)
    return root


def test_the_run_says_what_it_takes(bands):
    data = RunFolder(bands / "run").read_config()["data"]
    assert data["channels"] == "all of 13"
    assert data["white"] == 4095
    found = pictures().reshape(-1, BANDS) / 4095
    np.testing.assert_allclose(data["mean"], found.mean(0), atol=2e-3)
    np.testing.assert_allclose(data["std"], found.std(0), atol=2e-3)
    spec = RunFolder(bands / "run").read_spec()
    assert spec["in_chans"] == BANDS
    assert spec["mean"] == data["mean"]
    loaded = isosphere.load(bands / "run")
    assert loaded.views.recipe.hue == loaded.views.recipe.solarise == 0
    assert loaded.pixels.key["channels"] == "all of 13"


def test_every_command_takes_them(bands, run):
    pytest.importorskip("tifffile")
    data, folder = bands / "thirteen.npz", bands / "run"
    query = Path("one.tif")
    query.write_bytes(tiff(pictures()[0], colours=False))
    for words in (
        ("evaluate", folder, data, "--tasks", "knn"),
        ("embed", folder, data, "--out", "made.npz"),
        ("search", folder, query, "--in", data, "--out", "found.html"),
        ("search", folder, query, "--in", data, "--out", "found.png"),
        ("dedup", folder, data, "--threshold", 0.5, "--out", "twins.html"),
        ("views", data, "--out", "views.png", "--set", "data.image_size=16"),
        ("report", folder, "--out", "page.html"),
    ):
        found = run(*words)
        assert found.code == 0, (words, found.err)
    for page in ("found.html", "twins.html"):
        assert "pictures show bands 1, 2 and 3 as red, green and blue" in Path(page).read_text()
    assert "all of 13; the first three are shown as red, green and blue" in Path("page.html").read_text()
    assert np.load("made.npz", allow_pickle=False)["embeddings"].shape[0] == COUNT


@pytest.mark.parametrize("kind", ["safetensors", "onnx"])
def test_the_exported_reader_prepares_them(bands, run, kind):
    if kind == "onnx":
        pytest.importorskip("onnxscript")
    ending = "onnx" if kind == "onnx" else "safetensors"
    found = run("export", bands / "run", "--format", kind, "--out", f"encoder.{ending}")
    assert found.code == 0, found.err
    assert f"(64, 64, {BANDS})" in found.out
    loaded = isosphere.load(bands / "run", cache=False)
    x = torch.from_numpy(runpy.run_path("encoder.py")["prepare"](pictures()[3]))[None]
    if kind == "onnx":
        x = (x - torch.tensor(loaded.encoder.mean).view(-1, 1, 1)) / torch.tensor(loaded.encoder.std).view(
            -1, 1, 1
        )
    with torch.no_grad():
        features = loaded.encoder.eval()(x)[0]
    np.testing.assert_allclose(features, loaded.embed(pictures()[3])[0], atol=1e-4)


def test_pictures_at_hand_are_those_of_the_file(bands):
    loaded = isosphere.load(bands / "run", cache=False)
    x = pictures()
    expected = loaded.embed(bands / "thirteen.npz")
    one, several = loaded.embed(x[1]), loaded.embed(x)
    assert one.shape == (1, expected.shape[1])
    np.testing.assert_allclose(one[0], expected[1], atol=1e-5)
    np.testing.assert_allclose(several, expected, atol=1e-5)
    np.testing.assert_allclose(loaded.embed([x[1], x[2]]), expected[1:3], atol=1e-5)
    assert len(loaded.search(x[1], within=bands / "thirteen.npz")[0]) > 0
    pytest.importorskip("sklearn")
    step = isosphere.RunTransformer(loaded)
    np.testing.assert_allclose(step.transform(x), expected, atol=1e-5)
    assert len(step.get_feature_names_out()) == expected.shape[1]


def test_other_numbers_of_bands_are_refused_in_one_sentence(bands, run, classes):
    found = run("embed", bands / "run", bands / "four.npz", "--out", "x.npz")
    assert found.code == 2
    assert "have 4 bands, and 13 are expected" in " ".join(found.err.split())
    found = run("embed", bands / "run", classes, "--out", "x.npz")
    assert found.code == 2
    assert "have 3 bands, and 13 are expected" in " ".join(found.err.split())


def test_channels_are_chosen(bands, run):
    where = ("train", bands / "four.npz", "--out", "r", "--dry-run", "--image-size", "16")
    said = {}
    for channels in ("", "rgba", "rgb:1,2,3", "4,3", "rgb", "5", "green"):
        found = run(*where, *(["--set", f"data.channels={channels}"] if channels else []))
        said[channels] = found.code, " ".join((found.out + found.err).split())
    assert "4 channels, all bands; pictures show bands 1, 2 and 3 as red, green and blue" in said[""][1]
    assert "bands rgb:1,2,3 of 4" in said["rgb:1,2,3"][1]
    assert "2 channels, bands 4,3 of 4; pictures show band 4 as grey" in said["4,3"][1]
    assert [said[channels][0] for channels in ("", "rgba", "rgb:1,2,3", "4,3")] == [0] * 4
    assert said["rgb"][0] == said["5"][0] == said["green"][0] == 2
    assert "data.channels=rgb takes pictures of 3 bands" in said["rgb"][1]
    assert "expected rgb, rgba, grey, all" in said["green"][1]
    found = run(*where, "--set", "views.hue=0.1")
    assert found.code == 2
    assert "changes colours, and the channels all of 4 have none" in " ".join(found.err.split())
