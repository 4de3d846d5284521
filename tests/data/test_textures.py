"""Procedural textures: reproducible, independent, told apart under any rotation, and true to their names."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from isosphere.data import _texture_source as module
from isosphere.data import open_source, texture, textures
from isosphere.data._cache import cache_folder
from isosphere.data._textures import FAMILIES
from isosphere.errors import UsageError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "textures"


def grey(family: str, n: int = 24, size: int = 48, **options) -> torch.Tensor:
    return textures(family, torch.arange(n), size=size, **options).double() / 255


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_is_the_same_in_any_company(family):
    together = textures(family, torch.tensor([7, 2, 999, 2]), size=40, seed=5)
    assert together.shape == (4, 40, 40)
    assert together.dtype == torch.uint8
    assert torch.equal(together[1], together[3])
    for row, index in enumerate((7, 2, 999)):
        assert torch.equal(texture(family, index, size=40, seed=5), together[row])


@pytest.mark.parametrize("family", FAMILIES)
def test_index_seed_and_split_give_independent_images(family):
    sets = [grey(family), grey(family, seed=1), grey(family, split="test"), grey(family, split="val")]
    flat = torch.cat([(x - x.mean(0)).flatten(1) for x in sets])
    correlation = torch.corrcoef(flat).fill_diagonal_(0).abs()
    # A cloud has few independent parts, so that two of them may resemble each other; no two are one.
    assert correlation.max() < (0.85 if family == "cloud" else 0.6)


def test_families_draw_their_own_numbers():
    fields = [grey(f, 1).flatten() for f in FAMILIES]
    assert torch.corrcoef(torch.stack(fields)).fill_diagonal_(0).abs().max() < 0.4


# Means of the quarters of image 3: another version of torch or numpy must not change the images silently.
QUARTERS = {
    "cloud": [74.1, 155.2, 94.6, 183.2],
    "disk": [109.0, 124.9, 133.5, 141.0],
    "flake": [138.4, 121.9, 134.0, 138.1],
    "wood": [168.0, 159.1, 165.0, 166.6],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_images_stay_what_they_were(family):
    x = texture(family, 3, size=32).double()
    quarters = F.avg_pool2d(x[None, None], 16).flatten().tolist()
    assert quarters == pytest.approx(QUARTERS[family], abs=0.1), (
        "raise VERSION in textures.py with the new values"
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [16, 33, 72])
def test_images_use_the_range_of_greys_at_any_size(family, size):
    x = grey(family, 8, size)
    assert x.std((1, 2)).min() > 0.08
    assert 0.3 < x.mean() < 0.75


def turned(x: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    a = torch.deg2rad(degrees.double())
    rows = torch.stack([a.cos(), -a.sin(), 0 * a, a.sin(), a.cos(), 0 * a], dim=-1).view(-1, 2, 3)
    return F.grid_sample(
        x[:, None], F.affine_grid(rows, [len(x), 1, *x.shape[1:]], False), align_corners=False
    )[:, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_image_is_found_again_after_any_rotation(family):
    n, size = 60, 48
    x = grey(family, n, size, split="test")
    place = torch.linspace(-1, 1, size, dtype=torch.float64)
    inside = (place[:, None] ** 2 + place[None, :] ** 2 < 0.9).flatten()

    def unit(images: torch.Tensor) -> torch.Tensor:
        flat = images.flatten(1)[:, inside]
        return F.normalize(flat - flat.mean(1, keepdim=True), dim=1)

    queries = turned(x, 360 * torch.rand(n, generator=torch.Generator().manual_seed(1)))
    best = torch.full((n, n), -1.0, dtype=torch.float64)
    for degrees in range(
        0, 360, 6
    ):  # the best match over rotations: what a perfect invariant encoder could do
        best = torch.maximum(best, unit(turned(queries, torch.full((n,), degrees))) @ unit(x).T)
    assert (best.argmax(1) == torch.arange(n)).double().mean() >= 0.98
    own = best.diagonal().mean()
    other = best.clone().fill_diagonal_(-1).max(1).values.mean()
    assert own - other > (0.15 if family == "cloud" else 0.4)


def logit(x: torch.Tensor) -> torch.Tensor:
    return torch.logit(x.clamp(0.002, 0.998))


def test_clouds_have_the_spectrum_of_a_brownian_field():
    size = 96
    field = logit(grey("cloud", 60, size))
    window = torch.hann_window(size, dtype=torch.float64)
    field = (field - field.mean((1, 2), keepdim=True)) * window[:, None] * window[None, :]
    power = torch.fft.fft2(field).abs().square().mean(0)
    f = torch.fft.fftfreq(size, d=1 / size, dtype=torch.float64)
    radius = (f[:, None] ** 2 + f[None, :] ** 2).sqrt()
    power /= torch.exp(-((0.012 * 2 * math.pi * radius) ** 2))  # the blur, of 0.012 of the side
    band = (radius >= 3) & (radius <= 15)  # above the leakage of the window
    logs = torch.stack([radius[band].log(), torch.ones(int(band.sum()), dtype=torch.float64)], dim=1)
    slope = torch.linalg.lstsq(logs, power[band].log()[:, None]).solution[0].item()
    assert slope == pytest.approx(-3, abs=0.3)


def correlation_along_rows(x: torch.Tensor, lag: int) -> float:
    centred = x - x.mean((1, 2), keepdim=True)
    pairs = (centred[..., lag:] * centred[..., :-lag]).mean((1, 2)) / centred.square().mean((1, 2))
    return pairs.mean().item()


def test_disks_are_as_wide_as_their_diameter():
    x = grey("disk", 40, 100)  # radius 7 pixels; two points of one disk are at most 14 apart
    overlap = 2 / math.pi * (math.acos(0.5) - 0.5 * math.sqrt(1 - 0.25))  # of disks one radius apart
    assert correlation_along_rows(x, 7) == pytest.approx(overlap, abs=0.1)
    assert abs(correlation_along_rows(x, 17)) < 0.05
    assert correlation_along_rows(x.transpose(1, 2), 7) == pytest.approx(overlap, abs=0.1)


def coherence(x: torch.Tensor, blur: int) -> torch.Tensor:
    """How much one direction prevails within windows, from 0 to 1, by the structure tensor."""
    dy, dx = x[:, 1:, :-1] - x[:, :-1, :-1], x[:, :-1, 1:] - x[:, :-1, :-1]
    yy, xx, xy = (F.avg_pool2d(t[:, None], blur, stride=blur) for t in (dy * dy, dx * dx, dy * dx))
    return (((yy - xx).square() + 4 * xy.square()).sqrt() / (yy + xx).clamp(min=1e-9)).mean((1, 2, 3))


def test_wood_has_a_grain_that_points_anywhere():
    wood = grey("wood", 60, 96)
    others = torch.stack([coherence(grey(f, 20, 96), 95).mean() for f in ("cloud", "disk", "flake")])
    assert coherence(wood, 95).mean() > 0.3
    assert coherence(wood, 95).mean() > 2 * others.max()
    dy, dx = wood[:, 1:, :-1] - wood[:, :-1, :-1], wood[:, :-1, 1:] - wood[:, :-1, :-1]
    angle = 0.5 * torch.atan2(2 * (dy * dx).sum((1, 2)), (dx * dx - dy * dy).sum((1, 2)))
    resultant = torch.stack([(2 * angle).cos().mean(), (2 * angle).sin().mean()]).norm()
    assert resultant < 2.5 / math.sqrt(60)


def test_flakes_are_oriented_here_and_there_but_not_as_a_whole():
    flake, disk = grey("flake", 20, 96), grey("disk", 20, 96)
    assert coherence(flake, 12).mean() > coherence(disk, 12).mean() + 0.05
    assert coherence(flake, 95).mean() < 0.6 * coherence(flake, 12).mean()


@pytest.mark.parametrize("family", ["disk", "flake"])
def test_grains_are_heavy_tailed(family):
    field = logit(grey(family, 40, 64)).flatten()
    excess = ((field - field.mean()) ** 4).mean() / field.var() ** 2 - 3
    assert excess > 1


def test_the_source_is_split_sized_and_unlabelled():
    train = open_source("textures:disk?count=5&test=3&size=20&seed=2", split="train")
    test = open_source("textures:disk?count=5&test=3&size=20&seed=2", split="test")
    both = open_source("textures:disk?count=5&test=3&size=20&seed=2")
    assert (len(train), len(test), len(both)) == (5, 3, 8)
    assert train.has_test_split
    assert not both.has_labels
    assert train.name == "textures:disk"
    assert both.paths[5] == "disk/test/0"
    expected = texture("disk", 2, seed=2, size=20, split="test")
    assert torch.equal(test.read(2), expected.expand(3, 20, 20))
    assert torch.equal(both.read(7), test.read(2))


def test_validation_images_stand_in_place_of_test_images():
    spec = "textures:disk?count=5&val=3&size=20"
    val, train = open_source(spec, split="test"), open_source(spec, split="train")
    assert val.paths == ["disk/val/0", "disk/val/1", "disk/val/2"]
    assert torch.equal(val.read(1)[0], texture("disk", 1, size=20, split="val"))
    assert len(open_source(spec)) == len(train) + len(val) == 8


def test_all_families_together_are_labelled():
    source = open_source("textures:all?count=2&size=16", split="train")
    assert source.class_names == ["cloud", "disk", "flake", "wood"]
    assert source.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert torch.equal(source.read(7)[0], texture("wood", 1, size=16))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "textures:wod",
            r"textures:wod is unknown; expected one of textures:cloud, .*Did you mean 'textures:wood'",
        ),
        ("textures:", "textures: is unknown"),
        (
            "textures:wood?sise=20",
            r"no option 'sise'; expected count, test, val, size, seed, .*Did you mean 'size'",
        ),
        ("textures:wood?size=8", "size is '8'; expected an integer from 16 to 1024"),
        ("textures:wood?size=big", "size is 'big'; expected an integer"),
        ("textures:wood?size", "size is ''; expected an integer"),
        ("textures:wood?test=5&val=5", "either test or validation images"),
        ("textures:wood?val=0", "val is '0'"),
        ("textures:wood?count=0", "count is '0'; expected an integer from 1"),
        ("textures:wood?seed=-1", "seed is '-1'; expected an integer from 0"),
        ("textures:wood?count=²", "count is '²'; expected an integer"),
    ],
)
def test_wrong_specifications_are_refused(spec, message):
    with pytest.raises(UsageError, match=message):
        open_source(spec)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "wool"}, "family is 'wool'; expected one of cloud, disk, flake, wood"),
        ({"split": "dev"}, "split is 'dev'; expected one of train, test, val"),
        ({"size": 15}, "size is 15; expected at least 16 pixels"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        textures(**{"family": "wood", "index": torch.arange(2), **arguments})


SPEC = "textures:disk?count=3&size=16"


def test_images_are_kept_and_read_again(cache, monkeypatch):
    first = open_source(SPEC, split="train")
    assert [p.name for p in cache.iterdir()] == [f"v{module.VERSION}-disk-train-3x16px-seed0.npy"]
    monkeypatch.setattr(module, "_generate", None)  # would be called were the file not used
    assert torch.equal(open_source(SPEC, split="train").read(2), first.read(2))


@pytest.mark.parametrize("damage", [b"", b"nonsense", "short", "other shape", "pickle"])
def test_a_damaged_cache_is_written_anew(cache, damage):
    first = open_source(SPEC, split="train")
    file = next(cache.iterdir())
    sound = file.read_bytes()
    if damage == "short":
        file.write_bytes(sound[:-10])
    elif damage == "other shape":
        np.save(file, np.zeros((3, 15, 16), np.uint8))
    elif damage == "pickle":
        np.save(file, np.array([{}]), allow_pickle=True)
    else:
        file.write_bytes(damage)
    assert torch.equal(open_source(SPEC, split="train").read(2), first.read(2))
    assert file.read_bytes() == sound


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "file"))
    assert len(open_source(SPEC, split="train")) == 3


def test_a_killed_write_leaves_nothing_behind(cache, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        open_source(SPEC, split="train")
    assert list(cache.iterdir()) == []


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("ISOSPHERE_CACHE", "~/there")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "there"
    monkeypatch.delenv("ISOSPHERE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "isosphere"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "isosphere"


def test_generating_in_chunks_does_not_show(monkeypatch):
    many = module._generate("wood", "train", 150, 16, 0)
    assert np.array_equal(many, textures("wood", torch.arange(150), size=16).numpy())
