"""Which number is white: one for a whole set, announced, and refused in words where it cannot be told."""

import io
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from isosphere.data import (
    Channels,
    Pixels,
    Reading,
    UnreadableImageError,
    as_picture,
    as_source,
    decode,
    find_white,
    load_images,
    open_source,
    settle_reading,
)
from isosphere.errors import RunError, UsageError
from tests.zoo import TWELVE as TOP
from tests.zoo import colours, encoded, exif, png16, png_chunk, tiff, twelve_bits

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


TWELVE_BITS = twelve_bits()


@pytest.mark.parametrize("kind", TWELVE_BITS)
def test_no_level_of_twelve_bits_is_lost_before_white_is_known(kind, tmp_path):
    animal = TWELVE_BITS[kind]
    whole = np.asarray(decode(animal.body, white=TOP)).astype(float)
    assert np.abs(whole - animal.shown).max() <= animal.within
    file = tmp_path / f"picture.{animal.suffix}"
    file.write_bytes(animal.body)
    opened = Image.open(io.BytesIO(animal.body))
    for source in (open_source(tmp_path), as_source([str(file)]), as_source([opened])):
        found = find_white(source)
        assert found is not None
        assert found.value == TOP
        read = np.asarray(source.read_as(Reading(white=found.value)).image(0)).astype(float)
        assert np.array_equal(read, whole)
    script: dict[str, Any] = {}
    exec(Pixels(16, 16, (0.0,) * 3, (1.0,) * 3, Reading(white=TOP)).script(), script)
    expected = Reading(white=TOP).square(decode(animal.body, white=TOP), 16)
    assert np.abs(script["prepare"](file) * 255 - expected.numpy()).max() < 1e-3


def test_colours_of_sixteen_bits_are_turned_by_exif_and_keep_their_pixels_without_white():
    levels = np.arange(14 * 20 * 3).reshape(14, 20, 3).astype(np.uint16) * 4
    plain = png16(levels, 2)
    chunk = png_chunk(b"eXIf", exif(6).tobytes()[6:])
    turned = plain[:33] + chunk + plain[33:]
    shown = np.asarray(decode(turned, white=TOP))
    assert np.array_equal(shown, np.rot90(np.asarray(decode(plain, white=TOP)), -1))
    assert np.array_equal(np.asarray(decode(plain)), levels >> 8), "as runs of earlier versions see them"
    with pytest.raises(UnreadableImageError, match="reach from 0 to 3356, and 1023 is white"):
        decode(plain, white=1023)


def test_which_number_is_white_in_a_list_of_float_arrays_is_told_of_all_of_them():
    floats = [np.full((9, 9, 3), value, np.float32) for value in (0.25, 0.5, 1.0)]
    source = as_source(floats)
    found = find_white(source)
    assert found is not None
    assert found.value == 1.0
    assert [int(x[0, 0, 0]) for x in load_images(source.read_as(Reading(white=1.0)), 9).images] == [
        64,
        128,
        255,
    ]
    with pytest.raises(UsageError, match=r"holds float32.*Leave out ToTensor and Normalize"):
        load_images(source, 9)
    with pytest.raises(UsageError, match=r"data\[0\] holds float32.*Leave out ToTensor and Normalize"):
        as_source([np.linspace(-2, 2, 243, dtype=np.float32).reshape(9, 9, 3)])


def test_what_a_set_is_read_by_is_told_of_the_set_where_it_is_left_open():
    eight = as_source((TWELVE // 16).astype(np.uint8))
    assert settle_reading(eight, Reading()) == (Reading(), None)
    reading, white = settle_reading(as_source(TWELVE), Reading())
    assert reading.white == 4095
    assert white is not None
    assert settle_reading(as_source(TWELVE), Reading(white=65535.0 / 4)) == (Reading(white=65535.0 / 4), None)
    with pytest.raises(UsageError, match=r"cannot be told .* Give images of 8 bits"):
        settle_reading(as_source(SHARES * 100), Reading())
    for low, of in ((TWELVE // 17, 4095), (SHARES, 255), (TWELVE, 65535)):
        with pytest.raises(UsageError, match=f"and {of} is white: they would be nearly black"):
            settle_reading(as_source(low), Reading(white=of))
    black = as_source(np.zeros((3, 9, 9), np.uint16))
    assert settle_reading(black, Reading(white=4095)) == (Reading(white=4095), None)
    with pytest.raises(UsageError, match=r"have 4 bands, and 3 are expected \(data.channels: rgb\)"):
        settle_reading(as_source(np.zeros((3, 9, 9, 4), np.uint8)), Reading(channels=Channels("rgb")))


def test_a_float_picture_of_pillow_is_read_as_its_file():
    values = (SHARES[0] * 4095).astype(np.float32)
    shown = np.asarray(as_source([Image.fromarray(values)]).read_as(Reading(white=4095)).image(0))[..., 0]
    assert np.array_equal(shown, squares(values[None], 4095)[0])
