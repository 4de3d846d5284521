"""Copies of pictures: what is done to them, and that content alone decides it."""

import numpy as np
import pytest
from PIL import Image

from isosphere.data import COPY_KINDS, CopiedSource, Copying, as_source, copy_of, copying
from isosphere.data._picture import Bands


def picture(seed: int, size=(200, 120)) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def test_each_operation_does_what_it_says():
    image = picture(0)
    assert copy_of(image, Copying("none")) is image
    cut = copy_of(image, Copying("crop", crop=(0.05, 0.0, 1.0, 0.9)))
    assert cut.size == (190, 108)
    np.testing.assert_array_equal(np.asarray(cut), np.asarray(image)[:108, 10:])
    assert copy_of(image, Copying("resize", scale=0.6)).size == (120, 72)
    assert copy_of(image, Copying("resize", scale=0.1)).size == (107, 64)  # never below 64 pixels
    assert copy_of(picture(1, (40, 30)), Copying("resize", scale=0.5)).size == (40, 30)
    worse = np.asarray(copy_of(image, Copying("jpeg", quality=30)), float)
    better = np.asarray(copy_of(image, Copying("jpeg", quality=95)), float)
    exact = np.asarray(image, float)
    assert 0 < np.abs(better - exact).mean() < np.abs(worse - exact).mean() < 8


def test_kinds_are_equally_likely_and_within_their_ranges():
    made = [copying(np.random.default_rng(i).bytes(16)) for i in range(2000)]
    for kind in COPY_KINDS:
        assert sum(how.kind == kind for how in made) == pytest.approx(500, abs=80)
    for how in made:
        assert (how.crop is not None) == (how.kind in ("crop", "all three"))
        assert (how.scale is not None) == (how.kind in ("resize", "all three"))
        assert (how.quality is not None) == (how.kind in ("jpeg", "all three"))
        if how.crop is not None:
            left, top, right, bottom = how.crop
            assert 0.9 <= right - left <= 1
            assert 0.9 <= bottom - top <= 1
            assert min(left, top) >= 0
            assert max(right, bottom) <= 1


def test_a_copy_depends_on_content_and_seed_alone(tmp_path):
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        picture(seed).save(tmp_path / name)
    source = as_source(tmp_path)
    copies = CopiedSource(source)
    assert len(copies) == 3
    assert copies.paths == source.paths
    assert copies.copying(0) == copies.copying(1)
    assert copies.digest(0) == copies.digest(1) != copies.digest(2)
    assert copies.digest(0) != source.digest(0)
    assert copies.digest(0) != CopiedSource(source, seed=1).digest(0)
    assert not copies.has_labels
    assert [copies.dimensions(i) for i in range(3)] == [copies.image(i).size for i in range(3)]
    np.testing.assert_array_equal(copies.read(0), copies.read(1))
    assert any(
        copies.read(i).shape != source.read(i).shape or (copies.read(i) != source.read(i)).any()
        for i in (0, 2)
    )


def test_bands_are_treated_alike():
    planes = [
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (90, 80), np.uint8)) for i in range(5)
    ]
    made = copy_of(Bands(planes), Copying("all three", (0.0, 0.0, 0.95, 1.0), 0.9, 80))
    assert isinstance(made, Bands)
    assert len(made.split()) == 5
    assert {plane.size for plane in made.split()} == {(68, 81)}
