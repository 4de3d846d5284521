"""One way from a file to pixels: every kind of file, through every container and entry, becomes the same tensor."""

import io
import tarfile
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from isosphere.data import (
    Pixels,
    Reading,
    as_picture,
    as_source,
    decode,
    load_images,
    open_source,
    read_images,
    unseen,
)
from isosphere.data._picture import BARS, pixels
from tests.zoo import Animal, colours, encoded, timm_transform, zoo

ZOO = zoo()
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.mark.parametrize("kind", ZOO)
def test_every_kind_of_file_becomes_what_it_shows(kind):
    animal = ZOO[kind]
    got = np.asarray(decode(animal.body)).astype(float)
    assert got.shape == animal.shown.shape
    assert np.abs(got - animal.shown).max() <= animal.within


@pytest.fixture(scope="module")
def containers(tmp_path_factory):
    """The zoo in a folder, a zip and a tar; each picture's name by its kind."""
    root = tmp_path_factory.mktemp("zoo")
    names = {kind: f"{i:02d}.{animal.suffix}" for i, (kind, animal) in enumerate(ZOO.items())}
    (root / "folder").mkdir()
    with zipfile.ZipFile(root / "zoo.zip", "w") as archive, tarfile.open(root / "zoo.tar", "w") as tar:
        for kind, animal in ZOO.items():
            (root / "folder" / names[kind]).write_bytes(animal.body)
            archive.writestr(names[kind], animal.body)
            member = tarfile.TarInfo(names[kind])
            member.size = len(animal.body)
            tar.addfile(member, io.BytesIO(animal.body))
    return root, list(names.values())


@pytest.mark.parametrize("fit", ["crop", "pad", "squeeze"])
def test_every_container_and_entry_gives_the_same_pixels(containers, fit):
    root, names = containers
    expected = torch.stack([Reading(fit).square(decode(a.body, at_least=32), 16) for a in ZOO.values()])
    opened = [Image.open(io.BytesIO(animal.body)) for animal in ZOO.values()]
    sources = {
        "folder": open_source(root / "folder"),
        "zip": open_source(root / "zoo.zip"),
        "tar": open_source(root / "zoo.tar"),
        "paths": as_source([str(root / "folder" / name) for name in names]),
        "pictures of Pillow": as_source(opened),
    }
    for what, source in sources.items():
        found = read_images(source.read_as(Reading(fit)), 16)
        assert found.skipped == [], what
        assert torch.equal(found.images, expected), what
    assert opened[list(ZOO).index("large JPEG")].size == (600, 400), "they are left as they were"
    part = sources["zip"].subset([3, 1]).read_as(Reading(fit))
    assert torch.equal(load_images(part, 16).images, expected[[3, 1]])


@pytest.mark.parametrize(("canvas", "size"), [(24, 24), (24, 16)])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_the_file_that_goes_with_exported_weights_reads_pictures_alike(canvas, size, fit):
    made = Pixels(canvas, size, MEAN, STD, Reading(fit))
    for kind, animal in ZOO.items():
        square = made.reading.square(decode(animal.body, at_least=2 * canvas), canvas)
        expected = made.view(square[None])[0].numpy()
        got = pixels(animal.body, canvas=canvas, size=size, fit=fit, mean=MEAN, std=STD)
        assert np.abs(got - expected).max() < 1e-4, kind


OWN = ("RGB", "EXIF", "grey", "palette", "CMYK", "JPEG", "wide", "tall", "one pixel", "GIF", "WebP")
"""Kinds of which Pillow itself makes the picture that they show."""
CONFIGS = {
    "center": {"crop_pct": 0.875, "interpolation": "bicubic"},
    "all of the short side": {"crop_pct": 1.0, "crop_mode": "center", "interpolation": "bilinear"},
    "lanczos": {"crop_pct": 0.9, "interpolation": "lanczos"},
    "squash": {"crop_pct": 0.95, "crop_mode": "squash", "interpolation": "bicubic"},
    "border": {"crop_pct": 0.8, "crop_mode": "border", "interpolation": "bilinear"},
    "bars": {"crop_pct": 1.0, "crop_mode": "border", "interpolation": "bicubic"},
    "nothing said": {},
}


@pytest.mark.parametrize("config", CONFIGS)
def test_pixels_of_timm_are_those_of_its_own_evaluation_transform(config):
    cfg = {"input_size": (3, 24, 24), "mean": MEAN, "std": STD, **CONFIGS[config]}
    transform = timm_transform(cfg)
    made = Pixels.of_timm(cfg)
    script: dict[str, Any] = {}
    assert (made.size, made.canvas) == (24, 24)
    exec(made.script(), script)
    source = as_source([Image.open(io.BytesIO(animal.body)) for animal in ZOO.values()])
    squares = made.view(read_images(source.read_as(made.reading), 24).images)
    for (kind, animal), got in zip(ZOO.items(), squares, strict=True):
        picture = decode(animal.body)
        if any(word in kind for word in OWN) and not any(word in kind for word in ("16", "A PNG", "zero")):
            plain = ImageOps.exif_transpose(Image.open(io.BytesIO(animal.body))).convert("RGB")
            assert np.array_equal(np.asarray(plain), np.asarray(picture)), kind
        expected = transform(picture)
        assert (got - expected).abs().max() < 1e-5, kind
        assert np.abs(script["prepare"](animal.body) - expected.numpy()).max() < 1e-5, kind


def test_a_long_thin_picture_of_timm_never_grows_on_the_way():
    thin = Image.fromarray(colours(4000, 3))
    cfg = {"input_size": (3, 24, 24), "mean": MEAN, "std": STD}
    transform = timm_transform(cfg)
    made = Pixels.of_timm(cfg)
    got = made.view(made.reading.square(thin, 24)[None])[0]
    assert (got - transform(thin)).abs().max() < 1.01 / 255 / min(STD)
    longest = Image.new("RGB", (200_000, 1), (10, 20, 30))
    assert made.reading.square(longest, 224)[:, 0, 0].tolist() == [10, 20, 30]


def test_what_pixels_of_timm_depend_on_is_in_their_key():
    made = [Pixels.of_timm({"input_size": (3, 24, 24), **cfg}) for cfg in CONFIGS.values()]
    keys = [each.key for each in made] + [Pixels(24, 24, made[0].mean, made[0].std).key]
    assert len({str(key) for key in keys}) == len(keys) - 1, "what is not said is .875, bicubic"
    assert made[0].fitted("pad").key == Pixels(24, 24, made[0].mean, made[0].std, Reading("pad")).key
    for wrong in ({"crop_mode": "middle"}, {"interpolation": "random"}, {"crop_pct": 1.5}):
        with pytest.raises(ValueError, match="expected"):
            Pixels.of_timm(wrong)


def test_fits():
    wide = Image.fromarray(colours(60, 20))
    padded = np.asarray(Reading("pad").square(wide, 30)).transpose(1, 2, 0)
    assert (padded[:10] == BARS).all()
    assert (padded[20:] == BARS).all()
    expected = np.asarray(wide.resize((30, 10), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(padded[10:20], expected)
    squeezed = np.asarray(Reading("squeeze").square(wide, 30)).transpose(1, 2, 0)
    np.testing.assert_array_equal(squeezed, np.asarray(wide.resize((30, 30), Image.Resampling.BICUBIC)))
    square = Image.fromarray(colours(40, 40))
    crop, pad, squeeze = (Reading(fit).square(square, 30) for fit in ("crop", "pad", "squeeze"))
    assert torch.equal(crop, pad)
    assert torch.equal(crop, squeeze)


def test_a_picture_of_pillow_is_decoded_as_its_file_whether_or_not_it_was_looked_at():
    body = ZOO["large JPEG"].body
    fresh = Image.open(io.BytesIO(body))
    drafted = as_picture(fresh, at_least=64)
    assert drafted.size == (150, 100)
    assert np.array_equal(np.asarray(drafted), np.asarray(decode(body, at_least=64)))
    assert np.array_equal(np.asarray(fresh), np.asarray(decode(body))), "it is left as it was"
    assert as_picture(fresh, at_least=64).size == (600, 400), "decoded already"


def test_what_is_never_seen_is_said(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(ZOO["wide"].body)  # 60 x 14
    assert unseen(open_source(tmp_path)) == (
        "the central square of each picture is looked at, and 77% of an average one lies outside"
    )
    (tmp_path / "broken.png").write_bytes(b"broken")
    assert unseen(open_source(tmp_path)) is not None
    assert unseen(as_source(np.zeros((3, 8, 8), np.uint8))) is None


def test_an_animal_says_what_is_wrong_when_it_is():
    """The zoo itself can fail: a picture of other colours is not taken for the right one."""
    wrong = Animal("png", encoded(255 - colours(), "PNG"), colours())
    assert np.abs(np.asarray(decode(wrong.body)).astype(float) - wrong.shown).max() > 8
