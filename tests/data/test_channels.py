"""Any number of channels, from every container and entry: which are taken, what is refused, what views do to them."""

import runpy
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from isosphere.data import (
    Channels,
    Opening,
    Pixels,
    Reading,
    UnreadableImageError,
    Views,
    as_picture,
    as_source,
    channel_statistics,
    decode,
    find_channels,
    is_picture,
    load_images,
    open_source,
    read_images,
    recipe,
    suggest,
    visible,
    visible_channels,
)
from isosphere.errors import UsageError
from tests.zoo import BANDS, banded, colours, encoded, tiff

SIDE, COUNT = 20, 3
ALL = Reading(channels=Channels.parse("all"))
RGBA = np.dstack([colours(), colours(seed=2)[..., 1]])


def stack(bands: int, dtype: type = np.uint8) -> np.ndarray:
    """Pictures (n, h, w, bands)."""
    return np.stack([banded(bands, SIDE, 5 + 20 * i, dtype) for i in range(COUNT)])


def of(channels: str | None) -> Reading:
    return Reading(channels=None if channels is None else Channels.parse(channels))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[("rgb", 3), ("rgba", 3), ("grey", 1), ("all", None), ("all of 13", 13), ("7", 1)],
        *[("4,3,2", 3), ("4,3,2 of 13", 3), ("rgb:4,3,2", 3), ("rgb:4,3,2 of 13", 3)],
    ],
)
def test_channels_are_said_as_they_are_typed(text, number):
    assert str(Channels.parse(text)) == text
    assert Channels.parse(text).number == number


@pytest.mark.parametrize(
    "text", ["", "bgr", "0,1", "rgb:1,2", "4,3 of 3", "1,,2", "rgb of 3", "all of 0", "1.5"]
)
def test_other_words_for_channels_are_refused(text):
    with pytest.raises(ValueError, match="expected rgb, rgba, grey, all, or bands from 1 on as 4,3,2"):
        Channels.parse(text)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", BANDS)
def test_every_number_of_bands_through_every_container_and_entry(tmp_path, kind, dtype):
    h5py, bands = pytest.importorskip("h5py"), BANDS[kind]
    stored, shown = stack(bands, dtype), np.moveaxis(stack(bands), 3, 1)
    first = np.moveaxis(stored, 3, 1)
    np.savez(tmp_path / "last.npz", x_train=stored, y_train=[0, 1, 1])
    np.savez(tmp_path / "first.npz", images=first)
    np.save(tmp_path / "one.npy", stored)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["train/images"] = stored
    sources = {name: open_source(tmp_path / name) for name in ("last.npz", "first.npz", "one.npy", "set.h5")}
    sources |= {"array": as_source(stored), "pictures": as_source(list(stored))}
    tensors = torch.from_numpy(first.astype(np.int32) if dtype == np.uint16 else first)
    if dtype == np.uint8:
        sources |= {"tensor": as_source(tensors), "tensors": as_source(list(tensors))}
    for what, source in sources.items():
        read = source.read_as(Reading(channels=find_channels(source, Channels()).value, white=65535.0))
        assert read.in_chans == bands, what
        found = read_images(read, SIDE)
        assert found.skipped == [], what
        np.testing.assert_array_equal(found.images.numpy(), shown, what)


@pytest.mark.parametrize("options", [{}, {"planes": True}, {"order": ">"}], ids=str)
@pytest.mark.parametrize("kind", [kind for kind in BANDS if kind != "grey"])
def test_files_of_bands(tmp_path, kind, options):
    pytest.importorskip("tifffile")
    bands = BANDS[kind]
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for i, values in enumerate(stack(bands, np.uint16)):
            (tmp_path / f"{i}.tif").write_bytes(tiff(values, colours=False, **options))
            archive.writestr(f"{i}.tif", tiff(values, colours=False, **options))
    expected = torch.from_numpy(np.moveaxis(stack(bands), 3, 1).copy())
    for source in (open_source(tmp_path), open_source(tmp_path / "set.zip")):
        taken = find_channels(source, None)
        assert str(taken.value) == f"all of {bands}"
        assert taken.reason is not None
        assert source.dimensions(0) == (SIDE, SIDE)
        assert torch.equal(load_images(source.read_as(Reading(channels=taken.value)), SIDE).images, expected)


def test_a_file_that_tifffile_has_packed(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    values = banded(5)
    file = tmp_path / "packed.tif"
    tifffile.imwrite(file, values, photometric="minisblack", planarconfig="contig", compression="zlib")
    assert np.array_equal([np.asarray(plane) for plane in decode(file).split()], np.moveaxis(values, 2, 0))
    near = tmp_path / "near.tif"
    tifffile.imwrite(near, banded(4), photometric="rgb", extrasamples=["unspecified"])
    assert str(find_channels(as_source([near]), None).value) == "all of 4"
    transparent = tmp_path / "alpha.tif"
    tifffile.imwrite(transparent, RGBA, photometric="rgb", extrasamples=["unassalpha"])
    assert find_channels(as_source([transparent]), None).value == Channels("rgb")


def test_a_file_of_bands_says_what_reads_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(
        UnreadableImageError, match="a TIFF of 5 bands, which needs tifffile: pip install tifffile"
    ):
        decode(tiff(banded(5)))


def test_bands_are_resized_each_as_a_grey_picture():
    values = np.dstack([colours(60, 40, k)[..., 0] for k in range(5)])
    for fit in ("crop", "pad", "squeeze"):
        found = Reading(fit, channels=Channels()).square(as_picture(values, channels=Channels()), 16)
        planes = [Reading(fit).square(Image.fromarray(values[..., k]), 16) for k in range(5)]
        assert torch.equal(found, torch.cat(planes))
    bars = Reading("pad", bars=(1, 2, 3, 4, 5)).square(as_picture(values, channels=Channels()), 16)
    assert bars[:, 0, 0].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("channels", ["grey", "rgb", "rgb:3,1,2", "2", "all"])
def test_colours_become_the_channels_that_are_asked_for(channels):
    x = colours(SIDE, SIDE)
    grey = np.asarray(Image.fromarray(x).convert("L"))
    expected = {
        "grey": grey[None],
        "rgb": np.moveaxis(x, 2, 0),
        "rgb:3,1,2": np.moveaxis(x[..., [2, 0, 1]], 2, 0),
        "2": x[None, ..., 1],
        "all": np.moveaxis(x, 2, 0),
    }[channels]
    for source in (as_source(x[None]), as_source([Image.fromarray(x)]), as_source([x])):
        np.testing.assert_array_equal(source.read_as(of(channels)).read(0).numpy(), expected)
    one = as_source([Image.fromarray(grey)]).read_as(of(channels)) if channels in ("grey", "all") else None
    assert one is None or np.array_equal(one.read(0).numpy(), grey[None])


def test_a_fourth_band_is_transparency_only_where_that_is_asked_for():
    files = as_source([Image.fromarray(RGBA)])
    composited = files.read(0)
    assert composited.shape[0] == 3
    for source in (as_source(RGBA[None]), as_source([RGBA])):
        np.testing.assert_array_equal(source.read(0).numpy(), np.moveaxis(RGBA, 2, 0))
        assert (source.read_as(of("rgba")).read(0).int() - composited.int()).abs().max() <= 1
        chosen = source.read_as(of("rgb:1,2,3")).read(0).numpy()
        np.testing.assert_array_equal(chosen, np.moveaxis(RGBA[..., :3], 2, 0))
    with pytest.raises(
        UsageError, match=r"The images have 4 bands, and 3 are expected \(data.channels: rgb\)"
    ):
        as_source(RGBA[None]).read_as(of("rgb"))
    with pytest.raises(
        UsageError, match=r"The images have 3 bands, and 4 are expected \(data.channels: all of 4\)"
    ):
        as_source(RGBA[None, ..., :3]).read_as(of("all of 4"))
    with pytest.raises(UnreadableImageError, match=r"it has 4 bands, and 3 are expected \(rgb\)"):
        as_source([RGBA]).read_as(of("rgb")).read(0)


def test_pictures_that_disagree_are_counted(tmp_path):
    pytest.importorskip("tifffile")
    for i in range(3):
        (tmp_path / f"a{i}.png").write_bytes(encoded(colours(), "PNG"))
    (tmp_path / "b.tif").write_bytes(tiff(banded(4), colours=False))
    source = open_source(tmp_path)
    with pytest.raises(UsageError) as refused:
        find_channels(source, None)
    said = str(refused.value)
    assert "3 of 4 looked at have 3 bands (a0.png), 1 of 4 looked at has 4 bands (b.tif)" in said
    assert '"data.channels": "1,2,3"' in said
    assert '"data.channels": "rgba"' in said
    assert find_channels(source, Channels.parse("rgb:1,2,3")).value.of is None
    assert len(load_images(source.read_as(of("rgb:1,2,3")), 16)) == 4
    left = load_images(source.read_as(of("rgb")), 16)
    assert left.skipped == [("b.tif", "it has 4 bands, and 3 are expected (rgb)")]
    with pytest.raises(
        UsageError, match=r'"5".* takes pictures of 5 or more bands, and there are none among .*have 3 bands'
    ):
        find_channels(source, Channels.parse("5"))


def test_one_picture_at_hand_is_told_from_several():
    assert is_picture(np.zeros((9, 9, 4)))
    assert is_picture(np.zeros((9, 9, 13)), 13)
    assert not is_picture(np.zeros((9, 9, 13)))
    with pytest.raises(
        UsageError, match=r"one picture of shape \(40, 40, 13\); expected several, \(n, h, w, 13\)"
    ):
        as_source(np.zeros((40, 40, 13), np.uint8))
    with pytest.raises(UsageError, match=r"cannot be used: the images have shape \(3, 8, 8, 8\); expected"):
        as_source(np.zeros((3, 8, 8, 8), np.uint8))


# --- views --------------------------------------------------------------------------------------------------------


def test_views_of_bands_change_brightness_and_contrast_alike_and_nothing_between_the_bands():
    grey = torch.from_numpy(stack(1)).permute(0, 3, 1, 2)
    index, flat = torch.arange(COUNT), {"mean": (0.0,), "std": (1.0,)}
    made = recipe("lejepa", 16, **flat, solarise=0.0)
    one = Views(made)(grey, index=index, epoch=0, seed=0)
    many = Views(made)(grey.expand(-1, 5, -1, -1), index=index, epoch=0, seed=0)
    for x, y in zip(one, many, strict=True):
        assert torch.allclose(x.expand_as(y), y, atol=1e-5)
    bands = torch.from_numpy(stack(5)).permute(0, 3, 1, 2)
    shuffled = Views(made)(bands[:, [4, 2, 0, 1, 3]], index=index, epoch=0, seed=0)
    for x, y in zip(Views(made)(bands, index=index, epoch=0, seed=0), shuffled, strict=True):
        assert torch.allclose(x[:, [4, 2, 0, 1, 3]], y, atol=1e-5)


def test_a_recipe_needs_a_mean_for_each_channel():
    with pytest.raises(ValueError, match="images have 5 channels; expected 3, as there are means"):
        Views(recipe("crops", 8))(torch.zeros(1, 5, 9, 9), index=torch.arange(1), epoch=0, seed=0)
    assert "images of bands" in suggest(torch.from_numpy(stack(5)).permute(0, 3, 1, 2)).reason


def test_statistics_are_those_of_the_pixels():
    images = as_source(stack(5)).read_as(of("all of 5"))
    mean, std = channel_statistics(images, SIDE)
    pixels = stack(5).reshape(-1, 5) / 255
    np.testing.assert_allclose(mean, pixels.mean(0), atol=1e-6)
    np.testing.assert_allclose(std, pixels.std(0), atol=1e-6)
    assert channel_statistics(load_images(images, SIDE), SIDE) == (mean, std)
    empty = as_source(np.zeros((2, 8, 8, 2), np.uint8)).read_as(of("all of 2"))
    assert channel_statistics(empty, 8) == ((0.0, 0.0), (0.003922, 0.003922))


# --- applied ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", ["grey", "all of 5", "rgb:4,3,2 of 5", "2 of 5"])
def test_the_file_that_goes_with_exported_weights_reads_bands_alike(tmp_path, channels):
    pytest.importorskip("tifffile")
    values = banded(1 if channels == "grey" else 5, 40, dtype=np.uint16)
    taken = Channels.parse(channels)
    number = taken.number or 0
    mean, std = (0.2, 0.3, 0.4, 0.5, 0.6)[:number], (0.2, 0.3, 0.2, 0.3, 0.2)[:number]
    made = Pixels(24, 16, mean, std, Reading("pad", 65535.0, channels=taken))
    square = made.reading.square(as_picture(values, white=65535.0, channels=taken), 24)
    expected = made.view(square[None])[0].numpy()
    (tmp_path / "reader.py").write_text(made.script())
    (tmp_path / "picture.tif").write_bytes(tiff(values, colours=False))
    prepare = runpy.run_path(str(tmp_path / "reader.py"))["prepare"]
    for picture in (values, str(tmp_path / "picture.tif")):
        got = prepare(picture)
        assert got.shape == (number, 16, 16)
        assert np.abs(got - expected).max() < 1e-4


def test_the_key_of_features_names_the_channels():
    keys = [
        Pixels(8, 8, (0.5,), (0.5,), of(channels)).key["channels"] for channels in ("grey", "1 of 5", None)
    ]
    assert keys == ["grey", "1 of 5", "rgb"]


def test_three_of_the_bands_are_shown():
    values = banded(5)
    np.testing.assert_array_equal(np.asarray(visible(as_picture(values))), values[..., :3])
    np.testing.assert_array_equal(np.asarray(visible(as_picture(values[..., :2]))), values[..., 0])
    x = torch.zeros(2, 5, 4, 4)
    assert [visible_channels(x[:, :k]).shape[1] for k in (1, 2, 3, 5)] == [1, 1, 3, 3]


def test_a_ground_is_laid_under_arrays_as_under_files(tmp_path):
    ground = Reading(channels=Channels.parse("rgba"), opening=Opening.of(None, "#ff8800", None))
    (tmp_path / "a.png").write_bytes(encoded(RGBA, "PNG"))
    expected = np.asarray(open_source(tmp_path).read_as(ground).image(0)).astype(int)
    np.savez(tmp_path / "a.npz", images=RGBA[None])
    script: dict = {}
    exec(Pixels(16, 16, (0.0,) * 3, (1.0,) * 3, ground).script(), script)
    for data in (RGBA[None], [RGBA], str(tmp_path / "a.npz")):
        shown = np.asarray(as_source(data).read_as(ground).image(0)).astype(int)
        assert np.abs(shown - expected).max() <= 1
    assert np.abs(script["prepare"](RGBA) - script["prepare"](tmp_path / "a.png")).max() < 0.01


@pytest.mark.parametrize(("bands", "photometric"), [(4, "rgb"), (2, "minisblack")])
def test_no_band_is_dropped_of_a_picture_that_pillow_opened(bands, photometric, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    file, values = tmp_path / "a.tif", RGBA[..., :bands]
    tifffile.imwrite(
        file, values, photometric=photometric, planarconfig="contig", extrasamples=["unspecified"]
    )
    with Image.open(file) as opened:
        taken = as_source([opened]).read_as(ALL).image(0)
    assert np.array_equal(np.dstack(taken.split()), values)
    script: dict = {}
    exec(Pixels(16, 16, (0.0,) * 3, (1.0,) * 3).script(), script)
    with Image.open(file) as decoded:
        decoded.load()
        with pytest.raises(
            UnreadableImageError, match=f"{bands} bands, and Pillow drops some: give the path"
        ):
            as_picture(decoded, channels=Channels("rgb"))
        with pytest.raises(ValueError, match=f"{bands} bands, and Pillow drops some: give the path"):
            script["prepare"](decoded)


def test_an_exported_reader_refuses_what_pillow_misreads(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(banded(3, dtype=np.uint16), planes=True))
    script: dict = {}
    exec(Pixels(16, 16, (0.0,) * 3, (1.0,) * 3).script(), script)
    with pytest.raises(UnreadableImageError, match="each band by itself"):
        decode(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="decodes to other numbers than it holds"):
        script["prepare"](tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_of_bands_is_turned_as_pillow_turns(orientation, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    five, one = banded(5)[:13], tmp_path / "one.tif"
    tags = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(
        tmp_path / "a.tif", five, photometric="minisblack", planarconfig="contig", extratags=tags
    )
    tifffile.imwrite(one, five[..., 0], photometric="minisblack", extratags=tags)
    turned = decode(tmp_path / "a.tif", channels=Channels.parse("all"))
    assert np.array_equal(turned.split()[0], np.asarray(decode(one))[..., 0])


def test_a_tiff_of_bands_in_which_zero_is_white(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    for dtype in (np.uint8, np.uint16):
        values = banded(5, dtype=dtype)
        tifffile.imwrite(
            tmp_path / f"{dtype.__name__}.tif", values, photometric="miniswhite", planarconfig="contig"
        )
    shown = decode(tmp_path / "uint8.tif", channels=Channels.parse("all"))
    assert np.array_equal(np.dstack(shown.split()), 255 - banded(5))
    with pytest.raises(UnreadableImageError, match="more than 8 bits in which zero is white"):
        decode(tmp_path / "uint16.tif", channels=Channels.parse("all"))


def test_what_was_just_typed_is_not_advised():
    four = as_source(stack(4))
    with pytest.raises(UsageError) as refused:
        find_channels(four, Channels.parse("rgb"))
    assert str(refused.value).count('"data.channels": "rgb"') == 1
    assert "takes pictures of 3 bands, and there are none among the images: 3 of 3" in str(refused.value)
