"""The suggested recipe: on images whose symmetries are known by construction, and on real ones."""

import numpy as np
import pytest
import torch
from torch import Tensor

from isosphere.data._suggestion import grey_share, standard_error, suggest, symmetry_breaking
from isosphere.data._textures import textures


def blobs(n: int, side: int = 32, channels: int = 3, seed: int = 0) -> Tensor:
    """Smooth random images, in colour, whose law no flip or turn changes."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, 6, 6, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return (fine * 255).to(torch.uint8)


def with_sky(images: Tensor, strength: float = 0.3) -> Tensor:
    ramp = torch.linspace(strength, -strength, images.shape[2])[:, None] * 128
    return (images.float() + ramp).clamp(0, 255).to(torch.uint8)


def test_symmetric_images_pass_and_the_null_is_calibrated():
    ps = [symmetry_breaking(blobs(100, seed=seed), "turn")[1] for seed in range(40)]
    assert np.mean(np.array(ps) < 0.1) < 0.3
    assert 0.3 < np.mean(ps) < 0.7


def test_the_systematic_share_is_that_of_the_construction():
    images = torch.zeros(400, 1, 8, 8)
    signs = torch.where(torch.arange(400) % 2 == 0, 1.0, -1.0)
    images[:, :, 0] += 100 + 20 * signs[:, None, None]  # the top row: 100 ± 20, the bottom row: 0
    share, p = symmetry_breaking(images.to(torch.uint8), "upside-down")
    assert share == pytest.approx(100**2 / (100**2 + 20**2), abs=0.005)
    assert p < 0.0011
    assert symmetry_breaking(images.to(torch.uint8), "mirror")[0] <= 0


def test_colour_images_with_a_sky_get_crops_and_a_caution_about_rotation():
    suggestion = suggest(with_sky(blobs(300, side=96)))
    assert suggestion.name == "crops"
    assert "right way up" in suggestion.reason
    assert any("Rotation" in c for c in suggestion.cautions)
    assert not any("Left and right" in c for c in suggestion.cautions)


def test_colour_images_without_a_way_up_are_told_that_rotation_is_safe():
    suggestion = suggest(blobs(500, side=96))
    assert suggestion.name == "crops"
    assert any("rotation=180" in c for c in suggestion.cautions)
    assert not suggest(blobs(500, side=96), given={"rotation": 180}).cautions  # followed already


def test_a_right_way_up_that_was_not_found_is_no_recommendation_to_rotate():
    images = blobs(120, side=96)
    suggestion = suggest(images)
    assert suggestion.name == "crops"
    assert "no right way up was found in 120, nor excluded" in suggestion.reason
    assert not suggestion.cautions
    assert suggest(images[:, :1]).name == "crops"  # textures would be turned


def test_the_standard_error_is_the_spread_over_samples():
    shares = [symmetry_breaking(with_sky(blobs(200, seed=s), 0.1), "upside-down")[0] for s in range(30)]
    errors = [standard_error(with_sky(blobs(200, seed=s), 0.1), "upside-down") for s in range(30)]
    assert np.mean(errors) == pytest.approx(np.std(shares), rel=0.35)


def test_images_whose_left_and_right_differ_are_warned_about_flips():
    lopsided = with_sky(blobs(300)).transpose(2, 3).contiguous()
    assert any("horizontal_flip=0" in c for c in suggest(lopsided).cautions)


@pytest.mark.parametrize("family", ["cloud", "disk", "flake", "wood"])
def test_built_in_textures_get_the_textures_recipe(family):
    images = textures(family, torch.arange(500), size=32)[:, None].expand(-1, 3, -1, -1)
    suggestion = suggest(images)
    assert suggestion.name == "textures"
    assert not suggestion.cautions


def test_few_images_are_not_judged():
    suggestion = suggest(blobs(5, channels=1))
    assert suggestion.name == "crops"
    assert "too few" in suggestion.cautions[0]
    assert suggest(blobs(5)).name == "crops"


def test_grey_share_counts_images_without_colour():
    images = blobs(10)
    images[:4] = images[:4, :1]
    assert grey_share(images) == pytest.approx(0.4)
    assert grey_share(images[:, :1]) == 1.0


def test_real_photographs_are_seen_as_upright_and_mirrored_safely(real_data):
    with np.load(real_data / "cifar10_lossless4k.npz", allow_pickle=False) as pack:
        images = torch.from_numpy(pack["x_train"]).permute(0, 3, 1, 2)
    suggestion = suggest(images)
    assert suggestion.name == "crops"
    assert any("Rotation and vertical" in c for c in suggestion.cautions)
    assert not any("Left and right" in c for c in suggestion.cautions)


def test_digits_are_warned_about_flips():
    from sklearn.datasets import load_digits

    digits = torch.from_numpy(load_digits(return_X_y=True)[0].reshape(-1, 8, 8) * 255 / 16).to(torch.uint8)[
        :, None
    ]
    suggestion = suggest(torch.nn.functional.interpolate(digits, size=(32, 32)))
    assert suggestion.name == "crops"
    assert any("horizontal_flip=0" in c for c in suggestion.cautions)


def test_wrong_images_are_refused():
    with pytest.raises(ValueError, match="expected at least one image"):
        suggest(torch.zeros(0, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="uint8"):
        suggest(torch.rand(2, 3, 8, 8))
