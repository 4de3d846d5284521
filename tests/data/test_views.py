"""Views as a whole: what they depend on, what they refuse, and the recipes by name."""

import pickle

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from pydantic import ValidationError
from torch import Tensor

from isosphere.data import MOST_PASSES, RECIPES, ViewRecipe, Views, another_look, centre_view, recipe
from isosphere.data import _colour as colour
from isosphere.data import _resampling as resampling
from isosphere.data import _views as module
from isosphere.data._colour import LUMA
from isosphere.data._geometry import frame
from isosphere.data._random import uniform
from isosphere.data._recipes import IMAGENET_MEAN, IMAGENET_STD
from isosphere.data._resampling import sample_upright
from isosphere.errors import UsageError


@pytest.fixture
def images() -> Tensor:
    smooth = torch.nn.functional.interpolate(torch.rand(12, 3, 9, 9), size=(36, 36), mode="bicubic")
    return (smooth.clamp(0, 1) * 255).round().to(torch.uint8)


@pytest.fixture
def index() -> Tensor:
    return torch.arange(100, 112)


def unnormalised(view: Tensor, law: ViewRecipe) -> Tensor:
    return view * torch.tensor(law.std)[:, None, None] + torch.tensor(law.mean)[:, None, None]


def drawn(law: ViewRecipe, number: int, index: Tensor, side: int):
    """What is drawn for a view: its plan, and the factors of its colours."""
    units = colour.Units(1 / 255, law.mean, law.std)
    plans = module._plans(law, index, 0, 0, frame([(side, side)], law, index.device), 3, units)
    u = uniform(0, 0, index, number, module._COLOUR.stop)
    return plans[number], colour.jitter(u[:, module._COLOUR], law)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_gives_finite_views_between_black_and_white(name, images, index):
    law = recipe(name, 32)
    views = Views(law)(images, index=index, epoch=3, seed=1)
    assert len(views) == law.views == law.global_views + law.local_views
    for number, view in enumerate(views):
        side = law.view_size(number)
        assert view.shape == (12, 3, side, side)
        assert view.dtype == torch.float32
        assert view.is_contiguous()
        pixels = unnormalised(view, law)
        assert pixels.min() > -1e-5
        assert pixels.max() < 1 + 1e-5
        assert pixels.std(dim=(2, 3)).max() > 0.05  # not blank


@pytest.mark.parametrize("name", RECIPES)
def test_a_view_depends_on_its_image_alone_not_on_its_batch(name, images, index):
    views = Views(recipe(name, 24))
    whole = views(images, index=index, epoch=2, seed=7)
    order = torch.tensor([5, 2, 11])
    some = views(images[order], index=index[order], epoch=2, seed=7)
    for a, b in zip(whole, some, strict=True):
        torch.testing.assert_close(a[order], b, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["crops", "byol", "textures-paper"])
def test_chunks_do_not_show(name, images, index, monkeypatch):
    many, which = images.repeat(4, 1, 1, 1), torch.arange(48)
    whole = Views(recipe(name, 24))(many, index=which, epoch=0, seed=0)
    monkeypatch.setattr(module, "_CHUNK_CPU", 1)
    chunked = Views(recipe(name, 24))(many, index=which, epoch=0, seed=0)
    for a, b in zip(whole, chunked, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


@pytest.mark.parametrize("changed", ["epoch", "seed", "index", "view"])
def test_views_differ_between_epochs_seeds_images_and_view_numbers(changed, images):
    views = Views(recipe("textures", 24))
    same, zero = images[:1].expand(8, -1, -1, -1), torch.zeros(8, dtype=torch.int64)
    first, second = views(same, index=zero, epoch=0, seed=0)
    assert torch.equal(first[0], first[7])
    other = {
        "epoch": lambda: views(same, index=zero, epoch=1, seed=0)[0],
        "seed": lambda: views(same, index=zero, epoch=0, seed=1)[0],
        "index": lambda: views(same, index=zero + 1, epoch=0, seed=0)[0],
        "view": lambda: second,
    }[changed]()
    assert (other[0] - first[0]).abs().mean() > 0.05


def test_global_random_state_is_left_alone(images, index):
    state = torch.get_rng_state()
    Views(recipe("textures-paper", 24))(images, index=index, epoch=0, seed=0)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", ["byol", "textures-paper"])
def test_autocast_does_not_round_views(name, images, index):
    views = Views(recipe(name, 24))
    plain = views(images, index=index, epoch=0, seed=0)
    evaluation = centre_view(images, 24, IMAGENET_MEAN, IMAGENET_STD)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for a, b in zip(plain, views(images, index=index, epoch=0, seed=0), strict=True):
            assert torch.equal(a, b)
        assert torch.equal(evaluation, centre_view(images, 24, IMAGENET_MEAN, IMAGENET_STD))


def test_a_recipe_that_does_nothing_gives_the_evaluation_view(images, index):
    law = recipe(
        "crops", 24, scale=(1.0, 1.0), ratio=(1.0, 1.0), horizontal_flip=0.0, jitter_probability=0.0, grey=0.0
    )
    expected = centre_view(images, 24, IMAGENET_MEAN, IMAGENET_STD)
    for view in Views(law)(images, index=index, epoch=0, seed=0):
        torch.testing.assert_close(view, expected, atol=2e-5, rtol=0)


def test_bytes_and_floats_give_the_same_views(images, index):
    for name in ("byol", "textures-paper"):
        views = Views(recipe(name, 24))
        of_bytes = views(images, index=index, epoch=0, seed=0)
        of_floats = views(images / 255, index=index, epoch=0, seed=0)
        for a, b in zip(of_bytes, of_floats, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_every_grey_view_is_grey_and_about_a_fifth_are(images):
    law = recipe("crops", 16)
    index = torch.arange(1200)
    view = unnormalised(Views(law)(images.repeat(100, 1, 1, 1), index=index, epoch=0, seed=0)[0], law)
    grey = (view - view.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-4
    assert grey.float().mean() == pytest.approx(0.2, abs=0.04)


def test_single_channel_images(index):
    images = torch.randint(0, 256, (12, 1, 36, 36), dtype=torch.uint8)
    law = recipe("textures-paper", 24, mean=(0.5,), std=(0.25,))
    for view in Views(law)(images, index=index, epoch=0, seed=0):
        assert view.shape == (12, 1, 24, 24)
        assert view.abs().max() <= 2 + 1e-5
    assert centre_view(images, 24, IMAGENET_MEAN, IMAGENET_STD).shape == (12, 1, 24, 24)


def test_images_that_are_not_square_keep_their_proportions(index):
    disk = ((torch.arange(40)[:, None] - 19.5).square() + (torch.arange(60) - 29.5).square() < 9**2).float()
    law = recipe("textures", 40, scale=(1.0, 1.0), translation=0.0, jitter_probability=0.0, noise=0.0)
    images = disk.expand(12, 3, -1, -1)
    view = unnormalised(Views(law)(images, index=index, epoch=0, seed=0)[0], law)[:, 0] > 0.5
    torch.testing.assert_close(view.float().sum((1, 2)), disk.sum().expand(12), rtol=0.03, atol=0)
    assert (view.any(1).sum(1) - 18).abs().max() <= 2


def test_an_empty_batch_gives_empty_views():
    for name in ("byol", "textures-paper"):
        law = recipe(name, 16)
        empty = torch.empty(0, 3, 32, 32, dtype=torch.uint8)
        shapes = [v.shape for v in Views(law)(empty, index=torch.arange(0), epoch=0, seed=0)]
        assert shapes == [(0, 3, 16, 16)] * 2


def test_byol_views_are_those_of_torchvisions_functions_with_the_same_draws(images, index):
    law = recipe("byol", 24, hue=0.0, jitter_probability=1.0, grey=0.5)
    for number, view in enumerate(Views(law)(images, index=index, epoch=0, seed=0)):
        plan, jitter = drawn(law, number, index, 36)
        crops = sample_upright(images.float() / 255, plan.placement, 24)
        theirs = []
        for i, x in enumerate(crops):
            x = TF.adjust_brightness(x, float(jitter.brightness[i]))
            x = TF.adjust_contrast(x, float(jitter.contrast[i]))
            x = TF.adjust_saturation(x, float(jitter.saturation[i]))
            x = TF.rgb_to_grayscale(x, 3) if jitter.grey[i] else x
            if plan.sigma is not None and plan.sigma[i] > 0:
                x = TF.gaussian_blur(x, [23, 23], [float(plan.sigma[i])] * 2)
            if plan.solarise is not None and plan.solarise[i]:
                x = TF.solarize(x, 0.5)
            theirs.append(x)
        difference = (unnormalised(view, law) - torch.stack(theirs)).abs()
        assert difference.mean() < 0.01  # clamped once instead of after each function
        assert difference.median() < 1e-3


def test_crops_of_real_photographs_stay_close_to_torchvisions_jitter(real_data):
    """The price of a linear hue and of clamping once; the jitter itself moves pixels by 25 levels of 255."""
    import numpy as np

    with np.load(real_data / "cifar10_lossless4k.npz", allow_pickle=False) as pack:
        images = torch.from_numpy(pack["x_train"][:64]).permute(0, 3, 1, 2)
    still = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "horizontal_flip": 0.0}
    law = recipe("crops", 32, jitter_probability=1.0, grey=0.0, **still)
    index = torch.arange(64)
    ours = unnormalised(Views(law)(images, index=index, epoch=0, seed=0)[0], law)
    _, jitter = drawn(law, 0, index, 32)
    levels = []
    for i, x in enumerate(images.float() / 255):
        x = TF.adjust_brightness(x, float(jitter.brightness[i]))
        x = TF.adjust_contrast(x, float(jitter.contrast[i]))
        x = TF.adjust_saturation(x, float(jitter.saturation[i]))
        x = TF.adjust_hue(x, float(jitter.turn[i] / (2 * torch.pi)))
        levels.append((ours[i] - x).abs().mean() * 255)
    assert float(torch.stack(levels).median()) < 3
    assert float(torch.stack(levels).max()) < 25


@pytest.mark.parametrize(
    ("shape", "dtype", "error", "says"),
    [
        ((3, 32, 32), torch.uint8, ValueError, "expected .batch, channels"),
        ((2, 4, 32, 32), torch.uint8, ValueError, "images have 4 channels; expected 3"),
        ((2, 3, 32, 32), torch.int64, TypeError, "expected uint8"),
    ],
)
def test_wrong_images_are_refused(shape, dtype, error, says):
    images = torch.zeros(shape, dtype=dtype)
    with pytest.raises(error, match=says):
        Views(recipe("crops", 16))(images, index=torch.arange(2), epoch=0, seed=0)
    with pytest.raises(error, match=says):
        centre_view(images, 16, IMAGENET_MEAN, IMAGENET_STD)


def test_a_wrong_index_is_refused(images):
    with pytest.raises(ValueError, match="one number per image"):
        Views(recipe("crops", 16))(images, index=torch.arange(3), epoch=0, seed=0)


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'textures'"):
        recipe("texture", 32)
    with pytest.raises(UsageError, match="Did you mean 'rotation'"):
        recipe("crops", 32, rotatoin=3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": (0.5, 0.2)},
        {"scale": (0.0, 1.0)},
        {"scale": (0.5, 1.5)},
        {"rotation": 200.0},
        {"grey": 1.2},
        {"blur": (0.5, -0.1)},
        {"blur": ()},
        {"padding": "wrap"},
        {"mean": (0.5, 0.5)},
        {"std": (0.2, 0.0, 0.2)},
        {"translation": 0.1},
        {"global_views": 0},
        {"noise": float("nan")},
        {"mean": (float("nan"), 0.0, 0.0)},
    ],
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=r"Wrong recipe of views: .+got"):
        recipe("crops", 32, **wrong)
    with pytest.raises(ValidationError):
        ViewRecipe.model_validate({"size": 32} | wrong)


def test_a_size_out_of_range_is_refused():
    with pytest.raises(UsageError, match=r"size: .+ \(got 2\)"):
        recipe("crops", 2)


def test_recipes_are_values():
    a, b = recipe("byol", 32), recipe("byol", 32)
    assert a == b
    assert hash(a) == hash(b)
    assert pickle.loads(pickle.dumps(a)) == a
    assert ViewRecipe.model_validate(a.model_dump(mode="json")) == a
    assert a.probability("blur", 0) == 1.0
    assert a.probability("blur", 1) == a.probability("blur", 5) == 0.1
    assert recipe("crops", 32, grey=0.0).grey == 0.0


def test_lejepa_is_two_global_and_six_local_views_in_its_proportions():
    law = recipe("lejepa", 224)
    assert (law.global_views, law.local_views) == (2, 6)
    assert [law.view_size(v) for v in (0, 1, 2, 7)] == [224, 224, 98, 98]
    assert law.view_scale(1) == (0.3, 1.0)
    assert law.view_scale(2) == (0.05, 0.3)


def test_luma_weights_are_a_mean():
    assert sum(LUMA) == pytest.approx(1)


@pytest.mark.parametrize("name", ["byol", "textures-paper"])
def test_doing_all_rows_at_once_as_accelerators_do_gives_the_same_views(name, images, index, monkeypatch):
    law = recipe(name, 24, blur=0.5)
    some = Views(law)(images, index=index, epoch=0, seed=0)
    for user in (resampling, colour):
        monkeypatch.setattr(user, "chosen_rows", lambda gate: slice(None))
    for a, b in zip(some, Views(law)(images, index=index, epoch=0, seed=0), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


def test_further_looks_are_mirrored_and_cut_a_little_more_each(images):
    assert torch.equal(another_look(images, 0), images)
    assert torch.equal(another_look(images, 1), images.flip(3))
    assert torch.equal(another_look(images, 2), images[:, :, 1:-1, 1:-1])
    assert torch.equal(another_look(images, 3), another_look(images, 2).flip(3))
    assert min(another_look(images, MOST_PASSES - 1).shape[2:]) >= 36 / 2
