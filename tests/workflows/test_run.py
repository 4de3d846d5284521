"""A run in Python, and one that the version before has written."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import isosphere
from isosphere.data import open_source
from isosphere.deploy import LAYERS
from isosphere.errors import UsageError

from .conftest import pixels

KEPT = Path(__file__).parent.parent / "kept_run"


@pytest.fixture
def kept():
    return isosphere.load(KEPT, device="cpu", cache=False)


def test_a_run_of_the_version_before_gives_the_embeddings_it_gave(kept):
    digits = open_source("digits", split="test").subset(range(12))
    with np.load(KEPT / "expected.npz") as expected:
        for older, layer in (("backbone", "backbone"), ("views", "wccn"), ("head", "head")):
            np.testing.assert_allclose(kept.embed(digits, layer=layer), expected[older], atol=1e-5)


def test_a_run_is_its_parts(kept):
    assert isinstance(kept, isosphere.Run)
    assert kept.config.data.source == "digits"
    assert kept.method.encoder is kept.encoder
    assert not kept.method.training
    assert kept.views.recipe.size == kept.size
    assert repr(kept) == f"Run('{KEPT}', test_efficientnet, {kept.size} px, cpu)"
    shown = kept._repr_html_()
    assert "<table>" in shown
    assert "test_efficientnet" in shown
    assert ", ".join(LAYERS) in shown
    assert str(kept.folder.path) in shown


class Pictures(torch.utils.data.Dataset):
    def __init__(self, pictures):
        self.pictures = pictures

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, i):
        return Image.fromarray(self.pictures[i]), i % 2


def test_every_form_of_the_same_images_gives_the_same_embeddings(kept, folder):
    arrays = pixels()
    expected = kept.embed(folder)
    files = sorted(folder.glob("*.png"))
    for same in (
        arrays,
        list(arrays),
        torch.from_numpy(arrays).permute(0, 3, 1, 2),
        [Image.fromarray(x) for x in arrays],
        files,
        [str(file) for file in files],
        Pictures(arrays),
        open_source(str(folder)),
    ):
        np.testing.assert_allclose(kept.embed(same), expected, atol=1e-6)
    np.testing.assert_allclose(kept.features(kept.square(arrays)), expected, atol=1e-6)
    for one in (arrays[3], Image.fromarray(arrays[3]), files[3], str(files[3])):
        np.testing.assert_allclose(kept.embed(one), expected[3:4], atol=1e-6)


def test_images_at_hand_are_searched(kept):
    arrays = pixels()
    (found,) = kept.search(arrays[5], arrays, k=3)
    assert found[0].row == 5
    assert found[0].similarity == pytest.approx(1, abs=1e-5)


def test_duplicates_have_their_paths(kept, folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copies"))
    shutil.copy(copy / "03.png", copy / "again.png")
    (group,) = kept.dedup(str(copy), threshold=1 - 1e-6, layer="head")
    assert group.paths == ("03.png", "again.png")
    assert min(group.similarities) == pytest.approx(1, abs=1e-5)


def test_the_weights_of_an_epoch(folder, tmp_path, quick):
    made = isosphere.train(
        folder, tmp_path / "r", **{**quick, "epochs": 2, "set": {**quick["set"], "train.keep_every": 1}}
    )
    first, last = (isosphere.load(made.folder.path, device="cpu", epoch=k) for k in (1, 2))
    images = pixels(4)
    np.testing.assert_array_equal(last.embed(images), made.embed(images))
    assert not np.allclose(first.embed(images), made.embed(images), atol=1e-4)
    assert first.identity != made.identity  # an index of other weights is not to be searched
    assert "epoch 1" in repr(first)
    with pytest.raises(UsageError, match="kept are 1, 2"):
        isosphere.load(made.folder.path, epoch=7)


def test_export_in_python_speaks_of_keywords(kept, tmp_path):
    made = kept.export("safetensors", tmp_path / "e.safetensors")
    assert made.files[0].exists()
    with pytest.raises(UsageError, match='format="onnx"'):
        kept.export("timm", layer="wccn")
