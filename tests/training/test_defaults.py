"""What is decided from the images alone."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from isosphere.data import open_source, recipe
from isosphere.errors import UsageError
from isosphere.models import build_encoder
from isosphere.training import Config, load_config, resolve
from isosphere.training._defaults import canvas_side, check_batch, default_batch, typical_side


@pytest.fixture
def folder(tmp_path):
    """Photographs in small: bright above, dark below, 100 x 120 pixels."""
    generator = np.random.default_rng(0)
    for i in range(80):
        shade = np.linspace(220, 30, 100)[:, None, None] + generator.normal(0, 20, (100, 120, 3))
        Image.fromarray(shade.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_a_folder_of_photographs(folder):
    source = open_source(folder)
    assert typical_side(source) == 100
    config, suggestion = resolve(Config(), source)
    assert suggestion is not None
    assert (config.views.recipe, suggestion.name) == ("crops", "crops")
    assert (config.data.image_size, config.data.canvas_size) == (64, 100)
    assert config.data.crop_from == "whole"
    assert config.model.encoder == "small-conv"
    assert (config.train.batch_size, config.train.epochs) == (16, 100)


def test_the_canvas_has_a_pixel_for_each_of_the_smallest_local_crop():
    assert canvas_side(recipe("crops", 64)) == 128
    assert canvas_side(recipe("lejepa", 224)) == 448  # 98 px of 5 % of the area: 438
    assert canvas_side(recipe("lejepa", 224, local_scale=(0.02, 0.3))) == 693
    assert canvas_side(recipe("lejepa", 224, local_scale=(0.002, 0.3))) == 4 * 224  # memory's price


def test_what_is_given_is_kept(folder):
    given = Config().replace(
        data={"image_size": 128, "canvas_size": 160, "crop_from": "square"},
        views={"recipe": "byol"},
        train={"minutes": 3.0, "batch_size": 7},
    )
    config, suggestion = resolve(given, open_source(folder))
    assert suggestion is None
    assert config.model.encoder == "resnet18"
    assert config.replace(model={"encoder": None}) == given


def test_textures_are_turned(monkeypatch, tmp_path):
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path))
    config, suggestion = resolve(Config(), open_source("textures:wood?count=8&test=2", split="train"))
    assert suggestion is not None
    assert config.views.recipe == "textures"
    assert (config.data.image_size, config.data.canvas_size) == (48, 72)


def test_small_images_are_taken_as_they_are(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images)
    config, _ = resolve(Config(), open_source(tmp_path / "a.npz"))
    assert (config.data.image_size, config.data.canvas_size) == (32, 32)


def test_a_source_that_cannot_be_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"not a picture")
    with pytest.raises(UsageError, match=r"none of 1 images tried .*a\.jpg"):
        typical_side(open_source(tmp_path))


@pytest.mark.parametrize(
    ("count", "batch"), [(50_000, 256), (2000, 128), (200, 16), (20, 16), (3, 3), (1, 2)]
)
def test_batches(count, batch):
    assert default_batch(count) == batch


def test_too_few_images_or_too_large_a_batch():
    check_batch(4, 4, "x")
    with pytest.raises(UsageError, match=r"1 readable image: at least 2"):
        check_batch(2, 1, "x")
    with pytest.raises(UsageError, match=r"batch of 9 .* 8 readable images of x: give batch_size=8"):
        check_batch(9, 8, "x")


@pytest.mark.parametrize(
    ("sets", "rate", "decay"),
    [
        ([], 2e-3, 0.05),
        (["optim.name=lars", "train.batch_size=64"], 0.05, 1e-6),
        (["optim.name=sgd", "train.batch_size=64"], 0.0125, 1e-4),
        (["optim.name=sgd", "optim.learning_rate=0.3", "optim.weight_decay=0"], 0.3, 0.0),
    ],
)
def test_learning_rate_and_decay_go_with_the_optimiser(folder, sets, rate, decay):
    config, _ = resolve(load_config(None, sets), open_source(folder))
    assert config.optim.learning_rate == pytest.approx(rate)
    assert config.optim.weight_decay == decay


def test_given_weights_see_at_their_own_size(folder, tmp_path):
    """Also where the images are smaller; an architecture that the weights tell need not be named."""
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "w.pth")
    given = Config().replace(model={"encoder": "test_vit", "init": str(tmp_path / "w.pth")})
    config, _ = resolve(given, open_source(folder))
    assert (config.data.image_size, config.data.canvas_size) == (160, 160)
    assert default_batch(5000) == 256
    many = open_source(folder).subset(np.arange(80).repeat(20))
    assert resolve(given, many)[0].train.batch_size == 64, "memory"
    asked, _ = resolve(given.replace(data={"image_size": 64}), open_source(folder))
    assert (asked.data.image_size, asked.data.canvas_size) == (64, 100)
    run = build_encoder("test_vit", image_size=48)
    save_file(run.state_dict(), tmp_path / "encoder.safetensors")
    (tmp_path / "encoder.json").write_text(json.dumps(run.spec()))
    config, _ = resolve(Config().replace(model={"init": str(tmp_path)}), open_source(folder))
    assert (config.model.encoder, config.data.image_size) == ("test_vit", 48)
