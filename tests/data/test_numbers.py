"""Which number is white: one for a whole set, announced, and refused in words where it cannot be told."""

import h5py
import numpy as np
import pytest
from PIL import Image

from isosphere.data import Reading, as_picture, as_source, find_white, load_images, open_source
from isosphere.errors import RunError, UsageError
from tests.zoo import colours, encoded, tiff

RNG = np.random.default_rng(0)
TWELVE = RNG.integers(0, 4096, (20, 9, 9), dtype=np.uint16)
TWELVE[0, 0, 0] = 4095
SHARES = RNG.random((20, 9, 9))
SHARES[0, 0] = 1.0


def squares(data, white=None):
    source = as_source(data).read_as(Reading(white=white))
    return load_images(source, source.dimensions(0)[0]).images[:, 0].numpy()


@pytest.mark.parametrize(
    ("images", "white"),
    [
        (TWELVE, 4095),
        (TWELVE // 16, 255),
        (TWELVE // 4, 1023),
        (TWELVE * 4, 16383),
        (TWELVE * 16, 65535),
        ((TWELVE // 16).astype(np.int32), 255),
        (SHARES, 1),
        (SHARES.astype(np.float32) * 255, 255),
        (np.where(SHARES == 1, 1.02, SHARES), 1),
    ],
)
def test_one_white_for_a_set_wherever_it_lies(images, white, tmp_path):
    expected = np.rint(np.clip(images / white, 0, 1) * 255)
    np.savez(tmp_path / "a.npz", images=images)
    with h5py.File(tmp_path / "a.h5", "w") as archive:
        archive["images"] = images
    (tmp_path / "files").mkdir()
    for i, image in enumerate(images):
        one = image[..., None].astype(np.float32) if image.dtype == np.float64 else image[..., None]
        (tmp_path / "files" / f"{i:02d}.tif").write_bytes(tiff(one))
    opened = [Image.open(path) for path in sorted((tmp_path / "files").iterdir())]
    for data in (images, tmp_path / "a.npz", tmp_path / "a.h5", tmp_path / "files", opened):
        source = as_source(data)
        found = find_white(source)
        assert found is not None
        assert found.value == white
        assert found.caution is None
        assert np.abs(squares(source, white) - expected).max() <= (images.dtype.kind == "f")
        dark = source.subset([3]).read_as(Reading(white=white))  # never by the picture's own range
        assert np.abs(load_images(dark, 9).images[0, 0].numpy() - expected[3]).max() <= (
            images.dtype.kind == "f"
        )
    for picture in opened:
        picture.close()


def test_pictures_of_eight_bits_have_no_question(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(colours(), "PNG"))
    assert find_white(open_source(tmp_path)) is None
    assert find_white(as_source(TWELVE.astype(np.uint8))) is None
    assert np.array_equal(squares(TWELVE.astype(np.uint8), 4095), TWELVE.astype(np.uint8))


def test_a_set_whose_pictures_disagree_is_told(tmp_path):
    for i in range(3):
        (tmp_path / f"deep{i}.png").write_bytes(encoded(TWELVE[i], "PNG"))
    (tmp_path / "plain.png").write_bytes(encoded(colours(), "PNG"))
    found = find_white(open_source(tmp_path))
    assert found is not None
    assert found.value == 4095
    assert found.caution is not None
    assert (
        "1 have 8 bits (plain.png) and 3 more (deep0.png, uint16): 255 is white in the first" in found.caution
    )
    (tmp_path / "f.tif").write_bytes(tiff(SHARES[0][..., None].astype(np.float32)))
    with pytest.raises(
        UsageError, match=r"deep0.png \(uint16 from .* and f.tif \(float32 .* on no common scale"
    ):
        find_white(open_source(tmp_path))


LARGE = np.full((2, 6, 6), 70000)


@pytest.mark.parametrize("images", [SHARES * 100, -SHARES, SHARES * 4000, LARGE])
def test_what_cannot_be_told_is_refused_and_can_be_said(images):
    with pytest.raises(
        UsageError, match=r"cannot be told which number is white in the images: they hold .*data\.white"
    ):
        find_white(as_source(images))
    if images.min() >= 0:
        top = float(images.max())
        assert np.abs(squares(images, top) - images / top * 255).max() <= 0.5 + 1e-6


def test_what_is_on_another_scale_is_named():
    images = TWELVE.copy()
    images[4, 0, 0] = 4400  # a tenth beyond is cut
    images[5, 0, :2] = 50000, 0
    found = load_images(as_source(images).read_as(Reading(white=4095)), 9)
    assert found.skipped == [("image 5", "its numbers reach from 0 to 50000, and 4095 is white")]
    assert found.images[4, 0, 0, 0] == 255
    with pytest.raises(RunError, match="floats that fill"):
        load_images(as_source(SHARES * 100), 9)


def test_an_array_of_sixteen_bits_is_the_same_as_its_file():
    file = as_source([Image.fromarray(TWELVE[0] * 16)])
    for white in (None, 65535, 62000):
        one = np.asarray(as_picture(TWELVE[0] * 16, white=white))[..., 0]
        assert np.array_equal(load_images(file.read_as(Reading(white=white)), 9).images[0, 0], one)
