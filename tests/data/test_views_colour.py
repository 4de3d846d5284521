"""The colours of views against torchvision's functions."""

import math

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from torch import Tensor

from isosphere.data._colour import (
    COLOUR_DRAWS,
    ERASE_DRAWS,
    NOISE_BANK,
    Jitter,
    Units,
    add_noise,
    apply_affine,
    clamp,
    colour_map,
    erase,
    erased_boxes,
    jitter,
    offset_of,
    solarise,
)
from isosphere.data._recipes import ViewRecipe

PLAIN = Units(1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
NORMALISED = Units(1.0, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def apply(
    x: Tensor,
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    turn: float = 0.0,
    grey: bool = False,
    units: Units = PLAIN,
    clamped: bool = True,
) -> Tensor:
    factors = Jitter(*(torch.full((len(x),), v) for v in (brightness, contrast, saturation, turn, grey)))
    colours = colour_map(factors, x.shape[1], units)
    offset = offset_of(colours, x.mean((2, 3)), units)
    out = apply_affine(x, colours.matrix, offset, torch.empty_like(x))
    return clamp(out, units) if clamped else out


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 12, 12)


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4])
def test_brightness_contrast_and_saturation_are_torchvisions(images, factor):
    torch.testing.assert_close(apply(images, brightness=factor), TF.adjust_brightness(images, factor))
    # torchvision rounds its luma weights: .2989 for .299
    close = {"atol": 3e-4, "rtol": 0}
    torch.testing.assert_close(apply(images, contrast=factor), TF.adjust_contrast(images, factor), **close)
    torch.testing.assert_close(
        apply(images, saturation=factor), TF.adjust_saturation(images, factor), **close
    )


def test_grey_is_torchvisions_and_comes_last(images):
    grey = TF.rgb_to_grayscale(apply(images, turn=0.5, clamped=False), num_output_channels=3)
    torch.testing.assert_close(apply(images, turn=0.5, grey=True, clamped=False), grey, atol=5e-4, rtol=0)
    torch.testing.assert_close(apply(images, saturation=0.0), apply(images, grey=True), atol=1e-5, rtol=0)


def test_without_clamping_the_whole_chain_is_torchvisions_in_this_order():
    images = 0.4 + 0.2 * torch.rand(4, 3, 12, 12)  # far enough from black and white that nothing clamps
    theirs = TF.adjust_saturation(TF.adjust_contrast(TF.adjust_brightness(images, 1.2), 1.3), 0.7)
    torch.testing.assert_close(apply(images, 1.2, 1.3, 0.7), theirs, atol=3e-4, rtol=0)


def test_clamping_once_stays_close_to_clamping_after_each_function(images):
    theirs = TF.adjust_saturation(TF.adjust_contrast(TF.adjust_brightness(images, 1.4), 1.4), 1.2)
    difference = (apply(images, 1.4, 1.4, 1.2) - theirs).abs()
    assert difference.mean() < 0.02  # white noise and the strongest jitter: the worst case


def test_hue_keeps_greys_and_means_and_turns_add_up(images):
    turned = apply(images, turn=0.7, clamped=False)
    torch.testing.assert_close(turned.sum(1), images.sum(1), atol=1e-5, rtol=0)
    twice = apply(turned, turn=0.4, clamped=False)
    torch.testing.assert_close(twice, apply(images, turn=1.1, clamped=False), atol=1e-5, rtol=0)
    torch.testing.assert_close(apply(images, turn=2 * math.pi), images, atol=1e-5, rtol=0)
    grey = images[:, :1].expand(-1, 3, -1, -1).contiguous()
    torch.testing.assert_close(apply(grey, turn=2.0), grey, atol=1e-5, rtol=0)


@pytest.mark.parametrize("share", [-1 / 3, 1 / 3])
def test_hue_by_a_third_of_a_turn_is_torchvisions(images, share):
    ours = apply(images, turn=2 * math.pi * share)
    torch.testing.assert_close(ours, TF.adjust_hue(images, share), atol=1e-5, rtol=0)


@pytest.mark.parametrize("share", [-0.1, -0.05, 0.05, 0.1])
def test_hue_turns_the_way_of_torchvisions_and_about_as_far(images, share):
    images = 0.3 + 0.4 * images
    theirs = TF.adjust_hue(images, share)

    def distance(turn: float) -> float:
        return float((apply(images, turn=2 * math.pi * turn) - theirs).square().mean().sqrt())

    assert distance(share) < 0.8 * distance(0.0)
    assert distance(share) < 0.4 * distance(-share)


def test_normalisation_is_torchvisions(images):
    ours = apply(images, 1.1, 0.8, 1.2, 0.3, units=NORMALISED)
    theirs = TF.normalize(apply(images, 1.1, 0.8, 1.2, 0.3), list(NORMALISED.mean), list(NORMALISED.std))
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def test_bytes_are_scaled(images):
    ours = apply(images * 255, 1.1, 0.8, 1.2, 0.3, units=NORMALISED._replace(unit=1 / 255))
    torch.testing.assert_close(ours, apply(images, 1.1, 0.8, 1.2, 0.3, units=NORMALISED), atol=2e-5, rtol=0)


def test_grey_images_have_brightness_and_contrast(images):
    grey = images[:, :1].contiguous()
    units = Units(1.0, (0.0,), (1.0,))
    theirs = TF.adjust_contrast(TF.adjust_brightness(grey * 0.5, 1.2), 0.7)
    torch.testing.assert_close(apply(grey * 0.5, 1.2, 0.7, 0.3, 0.5, True, units), theirs, atol=1e-5, rtol=0)


def test_jitter_ranges_and_gates():
    law = ViewRecipe(
        size=8, jitter_probability=0.8, brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1, grey=0.2
    )
    drawn = jitter(torch.rand(20_000, COLOUR_DRAWS), law)
    shut = (drawn.brightness == 1) & (drawn.contrast == 1) & (drawn.turn == 0)
    assert shut.float().mean() == pytest.approx(0.2, abs=0.015)
    assert drawn.grey.float().mean() == pytest.approx(0.2, abs=0.015)
    for factors, low, high in (
        (drawn.brightness[~shut], 0.6, 1.4),
        (drawn.contrast[~shut], 0.0, 2.5),
        (drawn.saturation[~shut], 0.8, 1.2),
        (drawn.turn[~shut], -0.2 * math.pi, 0.2 * math.pi),
    ):
        span = high - low
        assert low - 1e-5 <= factors.min() < low + 0.01 * span
        assert high - 0.01 * span < factors.max() <= high + 1e-5
        assert factors.mean() == pytest.approx((low + high) / 2, abs=0.02 * span)


def test_solarise_is_torchvisions_for_those_chosen(images):
    gate = torch.tensor([True, False, True, False])
    mean, std = list(NORMALISED.mean), list(NORMALISED.std)
    ours = solarise(TF.normalize(images, mean, std), gate, 0.6, NORMALISED)
    expected = torch.where(gate[:, None, None, None], TF.solarize(images, 0.6), images)
    torch.testing.assert_close(ours, TF.normalize(expected, mean, std), atol=2e-5, rtol=0)


def test_noise_has_the_stated_deviation_in_unit_scale():
    bank = torch.randn(NOISE_BANK + 3 * 32 * 32)
    views = TF.normalize(torch.full((64, 3, 32, 32), 0.5), list(NORMALISED.mean), list(NORMALISED.std))
    start = torch.randint(0, NOISE_BANK, (64,))
    amplitude = torch.linspace(0, 0.1, 64)
    noisy = add_noise(views.clone(), amplitude, start, bank, NORMALISED, grey=False)
    unit = (noisy - views) * torch.tensor(NORMALISED.std)[:, None, None]
    torch.testing.assert_close(unit.std(dim=(1, 2, 3)), amplitude, atol=4e-3, rtol=0)
    assert noisy[0].equal(views[0])
    shared = add_noise(views.clone(), amplitude, start, bank, NORMALISED, grey=True)
    unit = (shared - views) * torch.tensor(NORMALISED.std)[:, None, None]
    torch.testing.assert_close(unit[:, 0], unit[:, 2], atol=1e-5, rtol=0)
    assert unit[-1].std() == pytest.approx(0.1, abs=0.01)


def test_noise_stays_between_black_and_white():
    views = torch.tensor(NORMALISED.white)[None, :, None, None].expand(2, 3, 8, 8).clone()
    noisy = add_noise(
        views, torch.ones(2), torch.tensor([0, 5]), torch.randn(NOISE_BANK + 200), NORMALISED, False
    )
    for channel in range(3):
        assert noisy[:, channel].max() <= NORMALISED.white[channel] + 1e-6
        assert noisy[:, channel].min() >= NORMALISED.black[channel] - 1e-6


def test_erased_share_follows_the_recipe_and_is_one_black_box():
    n, side = 600, 40
    views = torch.zeros(n, 3, side, side)
    erased = erase(views, erased_boxes(torch.rand(n, ERASE_DRAWS), 0.5, (0.1, 0.3)), NORMALISED)
    black = erased[:, 0] == NORMALISED.black[0]
    assert ((erased[:, 2] == NORMALISED.black[2]) == black).all()
    hit = black.flatten(1).any(1)
    assert hit.float().mean() == pytest.approx(0.5, abs=0.07)
    share = black[hit].float().mean((1, 2))
    assert share.mean() == pytest.approx(0.2, abs=0.01)
    assert share.min() > 0.07
    assert share.max() < 0.34
    box = black[hit].any(1, keepdim=True) & black[hit].any(2, keepdim=True)
    assert torch.equal(box, black[hit])


def test_erasing_a_large_share_keeps_its_area():
    boxes = erased_boxes(torch.rand(300, ERASE_DRAWS), 1.1, (0.9, 0.9))
    black = erase(torch.ones(300, 1, 50, 50), boxes, Units(1.0, (0.0,), (1.0,)))
    torch.testing.assert_close(
        (black == 0).float().mean((1, 2, 3)), torch.full((300,), 0.9), atol=0.03, rtol=0
    )
