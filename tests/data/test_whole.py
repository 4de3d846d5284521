"""Training sees the whole picture: shapes are kept, random crops are drawn over all of it."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from isosphere.data import (
    ImageSet,
    Loader,
    Pictures,
    PictureSet,
    Shapes,
    Views,
    centre_view,
    load_images,
    load_pictures,
    open_source,
    recipe,
)
from isosphere.data import _views as module
from isosphere.data._whole import fit_whole, whole_shape

SHAPES = [(40, 64), (64, 40), (40, 40), (40, 64), (40, 57), (160, 40), (40, 160), (53, 40)]
LAWS = {
    "lejepa": recipe("lejepa", 24),
    "turned crops": recipe("byol", 24, rotation=20.0),
    "textures-paper": recipe("textures-paper", 24),
}


def smooth(height: int, width: int, seed: int) -> Tensor:
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    grown = functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)
    return (grown[0] * 255).round().to(torch.uint8)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return Pictures([smooth(*shape, k) for k, shape in enumerate(SHAPES)])


@pytest.fixture
def folder(tmp_path):
    for k, (height, width) in enumerate(SHAPES):
        Image.fromarray(smooth(height, width, k).permute(1, 2, 0).numpy()).save(tmp_path / f"{k}.png")
    return open_source(str(tmp_path))


def same(a: Tensor | Pictures, b: Tensor | Pictures) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_pictures_are_rows_that_travel_as_one(pictures):
    assert same(pickle.loads(pickle.dumps(pictures)), pictures)
    assert same(pictures[2:4], [pictures[2], pictures[3]])
    assert same(pictures[torch.tensor([5, 0])], [pictures[5], pictures[0]])
    assert pictures.squares().shape == (len(SHAPES), 3, 40, 40)
    assert torch.equal(pictures.squares()[6], pictures[6][:, :, 60:100])
    with pytest.raises(ValueError, match=r"torch\.float32 of shape \(3, 2, 2\); expected uint8"):
        Pictures([torch.zeros(3, 2, 2)])
    with pytest.raises(ValueError, match="at least one, all of as many channels"):
        Pictures([torch.zeros(3, 2, 2, dtype=torch.uint8), torch.zeros(1, 2, 2, dtype=torch.uint8)])


def test_the_short_side_becomes_the_canvas_and_only_what_is_very_long_is_cut():
    assert whole_shape(480, 640, 96) == (96, 128)
    assert whole_shape(10, 5, 96) == (192, 96)
    assert whole_shape(50, 1000, 96) == (96, 384)
    long = torch.zeros(3, 10, 100, dtype=torch.uint8)
    long[:, :, 30:70] = 200
    assert fit_whole(long, 10).shape == (3, 10, 40)
    assert (fit_whole(long, 10) == 200).all()
    assert torch.equal(fit_whole(long[:, :, 40:60], 10), long[:, :, 40:60])


@pytest.mark.parametrize("shape", [(96, 130), (130, 96), (96, 96), (30, 41)])
def test_a_picture_is_resized_as_pillow_does_it_within_two_levels(shape):
    picture = smooth(*shape, 3)
    height, width = whole_shape(*shape, 48)
    theirs = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    apart = fit_whole(picture, 48).permute(1, 2, 0).numpy().astype(int) - np.asarray(theirs, dtype=int)
    assert np.abs(apart).max() <= 2
    assert (apart != 0).mean() < 0.1


def test_what_is_kept_is_counted_by_real_bytes(folder):
    found = Shapes.of(folder, 20)
    assert found.too_long == 0
    held = load_pictures(folder, 20)
    assert found.bytes_each * len(held) == sum(x.numel() for x in held.images)


def test_pictures_are_held_in_their_shape_and_squares_as_before(folder, tmp_path):
    held = load_pictures(folder, 20)
    assert isinstance(held, PictureSet)
    assert held.size == 20
    assert [x.shape[1:] for x in held.images][:3] == [(20, 32), (32, 20), (20, 20)]
    assert held.subset([1, 2]).paths == ["1.png", "2.png"]
    square = folder.subset([2])
    assert isinstance(load_pictures(square, 40), ImageSet)
    assert torch.equal(load_pictures(square, 40).images, load_images(square, 40).images)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_of_whole_pictures_is_that_from_memory(folder, workers):
    memory = Loader(load_pictures(folder, 20), batch_size=4, seed=2)
    stream = Loader(folder, batch_size=4, size=20, whole=True, seed=2, workers=workers)
    for start in (0, 1):
        for ours, theirs in zip(stream.epoch(3, start), memory.epoch(3, start), strict=True):
            assert torch.equal(ours.index, theirs.index)
            assert same(ours.images, theirs.images)
    stream.close()


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_views_of_many_shapes_are_those_of_each_picture_alone(pictures, law, monkeypatch):
    index = torch.arange(len(pictures)) + 7
    together = Views(law)(pictures, index=index, epoch=1, seed=5)
    for k, picture in enumerate(pictures):
        alone = Views(law)(picture[None], index=index[k : k + 1], epoch=1, seed=5)
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[k], b[0], atol=2e-5, rtol=0)
    monkeypatch.setattr(module, "_CHUNK_CPU", 1)
    for a, b in zip(Views(law)(pictures, index=index, epoch=1, seed=5), together, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


def test_pictures_of_one_shape_have_the_bits_of_a_tensor(pictures):
    squares = pictures.squares()
    index, law = torch.arange(len(squares)), LAWS["lejepa"]
    for a, b in zip(
        Views(law)(Pictures(list(squares)), index=index, epoch=0, seed=0),
        Views(law)(squares, index=index, epoch=0, seed=0),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("law", [recipe("crops", 16), recipe("textures", 16)], ids=["crops", "textures"])
@pytest.mark.parametrize("upright", [True, False])
def test_all_of_a_long_picture_is_seen(law, upright):
    """Where on the long side a view comes from, read off a ramp: a centred square would show its middle third alone."""
    ramp = torch.linspace(0, 255, 120).expand(3, 40, 120)
    picture = (ramp if upright else ramp.transpose(1, 2)).round().to(torch.uint8)
    plain = law.model_copy(
        update={"jitter_probability": 0.0, "grey": 0.0, "noise": 0.0, "rotation": 0.0, "translation": 0.0}
    )
    index = torch.arange(400)
    view = Views(plain.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3}))(
        Pictures([picture] * 400), index=index, epoch=0, seed=0
    )[0]
    middle = view[:, 0].mean((1, 2))
    assert middle.min() < 0.25
    assert middle.max() > 0.75
    assert middle.mean() == pytest.approx(0.5, abs=0.05)


def test_the_centre_view_is_of_the_central_square(pictures):
    a = centre_view(pictures, 24, (0.5,) * 3, (0.2,) * 3)
    assert torch.equal(a, centre_view(pictures.squares(), 24, (0.5,) * 3, (0.2,) * 3))


def test_large_views_are_drawn_from_each_image_alone_and_those_of_squares_as_before(pictures, monkeypatch):
    law, index = recipe("crops", 96, blur=0.5), torch.arange(len(pictures))
    squares = pictures.squares()
    drawn = [Views(law)(images, index=index, epoch=1, seed=5) for images in (pictures, squares)]
    one = Views(law)(pictures[1][None], index=index[1:2], epoch=1, seed=5)
    monkeypatch.setattr(module, "_ALONE", 1000)
    together = [Views(law)(images, index=index, epoch=1, seed=5) for images in (pictures, squares)]
    for view in range(law.views):
        torch.testing.assert_close(one[view][0], drawn[0][view][1], atol=2e-5, rtol=0)
        assert not torch.equal(drawn[0][view], together[0][view])
        torch.testing.assert_close(drawn[0][view], together[0][view], atol=2e-4, rtol=0)
        assert torch.equal(drawn[1][view], together[1][view])
