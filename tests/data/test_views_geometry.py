"""The geometry of views against torchvision's resized crop, affine map, blur and sampler, and brute force."""

import math

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as T
import torchvision.transforms.v2.functional as TF
from scipy.stats import ks_2samp
from torch import Tensor

from isosphere.data._geometry import (
    BOX_DRAWS,
    PLACE_DRAWS,
    Placement,
    frame,
    place,
    random_boxes,
    shrinking,
)
from isosphere.data._random import uniform
from isosphere.data._recipes import ViewRecipe, recipe
from isosphere.data._resampling import (
    Levels,
    blur,
    blur_matrix,
    resize_matrix,
    sample_boxes,
    sample_turned,
    sample_upright,
    smoothing_matrix,
)
from isosphere.data._views import centre_view

SHAPES = [(32, 32), (40, 57), (9, 120), (32, 6)]

CPU = torch.device("cpu")

BILINEAR = T.InterpolationMode.BILINEAR


def smooth_images(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Random images with the falling spectrum of photographs, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, 3, height, width, generator=generator)
    fy, fx = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None, :]
    amplitude = 1.0 / (fx.square() + fy.square()).sqrt().clamp_min(1.0 / max(height, width))
    field = torch.fft.ifft2(torch.fft.fft2(noise) * amplitude).real
    field = (field - field.mean((2, 3), keepdim=True)) / field.std((2, 3), keepdim=True)
    return (0.5 + 0.2 * field).clamp(0, 1)


def same_law(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether Kolmogorov and Smirnov's test does not tell these samples apart."""
    return float(ks_2samp(a, b)[1]) > 1e-3  # type: ignore[arg-type]


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


def upright(
    box: tuple[float, float, float, float], n: int, flip_x: bool = False, flip_y: bool = False
) -> Placement:
    """The placement of a box (left, top, width, height)."""
    left, top, width, height = box
    half = torch.tensor([width * (-0.5 if flip_x else 0.5), height * (-0.5 if flip_y else 0.5)])
    centre = torch.tensor([left + width / 2, top + height / 2])
    return Placement(centre.expand(n, 2), torch.diag(half).expand(n, 2, 2))


@pytest.mark.parametrize("source", [(32, 32), (40, 56)])
@pytest.mark.parametrize("size", [20, 32, 64])
def test_whole_image_is_torchvisions_antialiased_resize(source, size):
    images = smooth_images(2, *source)
    ours = sample_upright(images, upright((0, 0, source[1], source[0]), 2), size)
    theirs = TF.resize(images, [size, size], antialias=True)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("source", "size"), [(128, 32), (128, 96), (32, 32), (64, 96)])
@pytest.mark.parametrize("flip", [(False, False), (True, False), (False, True)])
def test_crop_is_torchvisions_resized_crop_inside_and_close_at_the_border(source, size, flip):
    images = smooth_images(2, source, source)
    left, top, width, height = source // 8, source // 4, source // 2, 5 * source // 8
    ours = sample_upright(images, upright((left, top, width, height), 2, *flip), size)
    theirs = TF.resized_crop(images, top, left, height, width, [size, size], antialias=True)
    theirs = theirs.flip([axis for axis, flipped in zip((3, 2), flip, strict=True) if flipped])
    edge = 1 + math.ceil(size / min(width, height))  # where torchvision cannot see past the box and ours does
    inside = (..., slice(edge, -edge), slice(edge, -edge))
    torch.testing.assert_close(ours[inside], theirs[inside], atol=1e-5, rtol=0)
    assert psnr(ours, theirs) > 38


def test_box_between_pixels_is_brute_force_integration_of_the_triangle():
    image = torch.rand(1, 1, 9, 9)
    centre, half, size = 4.3, 3.15, 5
    weights = torch.zeros(size, 9, dtype=torch.float64)
    for i in range(size):
        position = centre + half * (2 * (i + 0.5) / size - 1)
        support = max(2 * half / size, 1.0)
        for j in range(9):
            weights[i, j] = max(0.0, 1 - abs(j + 0.5 - position) / support)
    weights /= weights.sum(1, keepdim=True)
    expected = weights @ image[0, 0].double() @ weights.T
    box = (centre - half, centre - half, 2 * half, 2 * half)
    ours = sample_upright(image, upright(box, 1), size)[0, 0]
    torch.testing.assert_close(ours.double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [5, 60])
def test_boxes_one_by_one_are_the_products_with_whole_matrices(size):
    """A mirrored box between pixels, a sliver at a corner, and all of an image, twice."""
    images = [torch.rand(3, h, w, generator=torch.Generator().manual_seed(h)) for h, w in SHAPES]
    centre = torch.tensor([[20.3, 11.7], [56.95, 0.05], [60.0, 4.5], [3.0, 16.0]])
    half = torch.tensor([[-9.1, 7.2], [0.05, -0.05], [60.0, 4.5], [3.0, 16.0]])
    boxes = Placement(centre, torch.diag_embed(half))
    found = sample_boxes(images, boxes, size)
    for k, image in enumerate(images):
        alone = Placement(centre[k : k + 1], boxes.linear[k : k + 1])
        torch.testing.assert_close(
            found[k : k + 1], sample_upright(image[None], alone, size), atol=2e-5, rtol=0
        )


def test_resize_rows_sum_to_one_even_for_a_sliver_at_the_corner():
    matrix = resize_matrix(torch.tensor([0.05, 31.95]), torch.tensor([0.05, -0.05]), 32, 8)
    torch.testing.assert_close(matrix.sum(2), torch.ones(2, 8))
    assert (matrix >= 0).all()


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_blur_is_torchvisions_gaussian_blur(sigma):
    images = smooth_images(2, 24, 24)
    theirs = TF.gaussian_blur(images, [23, 23], [sigma, sigma])
    torch.testing.assert_close(blur(images.clone(), torch.full((2,), sigma)), theirs, atol=2e-5, rtol=0)
    fused = sample_upright(images, upright((0, 0, 24, 24), 2), 24, torch.full((2,), sigma))
    torch.testing.assert_close(fused, theirs, atol=2e-5, rtol=0)


def test_blur_of_zero_is_the_identity_and_leaves_its_neighbours_alone():
    assert torch.equal(blur_matrix(torch.zeros(1), 7)[0], torch.eye(7))
    images = smooth_images(2, 16, 16)
    blurred = blur(images.clone(), torch.tensor([0.0, 1.0]))
    assert torch.equal(blurred[0], images[0])
    assert not torch.allclose(blurred[1], images[1])


def placement_of_torchvision(
    angle: float, shift: tuple[float, float], zoom: float, shear: tuple[float, float], height: int, width: int
) -> Placement:
    """The placement that fetches what ``TF.affine`` shows with these arguments: the inverse of its map."""
    a, (sx, sy) = math.radians(angle), (math.radians(s) for s in shear)
    # torchvision rotates and shears in one matrix, in (x, y) with y downwards, times zoom.
    m = np.array(
        [
            [math.cos(a - sy) / math.cos(sy), -math.cos(a - sy) * math.tan(sx) / math.cos(sy) - math.sin(a)],
            [math.sin(a - sy) / math.cos(sy), -math.sin(a - sy) * math.tan(sx) / math.cos(sy) + math.cos(a)],
        ]
    )
    inverse = torch.tensor(np.linalg.inv(zoom * m), dtype=torch.float32)
    centre = torch.tensor([width / 2, height / 2])
    offset = centre - inverse @ torch.tensor(shift)
    return Placement(offset[None], (inverse @ torch.diag(centre))[None])


@pytest.mark.parametrize(
    ("angle", "shift", "zoom", "shear"),
    [
        (30.0, (0.0, 0.0), 1.0, (0.0, 0.0)),
        (-175.0, (3.0, -5.0), 1.3, (0.0, 0.0)),
        (90.0, (0.0, 2.0), 1.0, (8.0, 0.0)),
        (10.0, (1.0, 1.0), 1.7, (-12.0, 6.0)),
    ],
)
def test_turned_view_is_torchvisions_affine(angle, shift, zoom, shear):
    images = smooth_images(1, 48, 48)
    theirs = TF.affine(images, angle, list(shift), zoom, list(shear), BILINEAR, fill=[0.0])
    placement = placement_of_torchvision(angle, shift, zoom, shear, 48, 48)
    ours = sample_turned(Levels(images, 0.5, 1.0), placement, 48, "zeros")
    # torchvision fades its fill over the last half pixel by a mask; compare where its mask is 1.
    mask = TF.affine(torch.ones_like(images), angle, list(shift), zoom, list(shear), BILINEAR, fill=[0.0])
    covered = mask > 0.999
    assert covered.float().mean() > 0.5
    torch.testing.assert_close(ours[covered], theirs[covered], atol=1e-4, rtol=0)
    assert float(ours[mask == 0].abs().sum()) < 1e-6


def test_place_turns_clockwise_angles_as_documented_and_keeps_the_centre():
    turned = recipe("textures", 16, rotation=180.0, translation=0.0, scale=(0.5, 0.5), ratio=(1.0, 1.0))
    u = torch.full((1, PLACE_DRAWS), 0.5)
    u[0, 2] = 0.75  # a quarter turn
    centre, linear = place(u, None, frame([(32, 32)], turned, CPU), turned, 0)
    torch.testing.assert_close(centre, torch.tensor([[16.0, 16.0]]))
    torch.testing.assert_close(linear[0], torch.tensor([[0.0, -8.0], [8.0, 0.0]]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("padding", ["zeros", "reflection", "border"])
def test_padding_fills_what_leaves_the_image(padding):
    images = torch.rand(1, 1, 8, 8) + 0.5
    placement = Placement(
        torch.tensor([[4.0, 4.0]]), torch.diag(torch.tensor([8.0, 8.0]))[None]
    )  # twice the image
    view = sample_turned(Levels(images, 0.5, 1.0), placement, 16, padding)[0, 0]
    torch.testing.assert_close(view[4:12, 4:12], images[0, 0])
    corner = {"zeros": 0.0, "reflection": float(images[0, 0, 3, 3]), "border": float(images[0, 0, 0, 0])}[
        padding
    ]
    assert float(view[0, 0]) == pytest.approx(corner)


def reference_view(image: Tensor, placement: Placement, size: int) -> Tensor:
    """The view by torchvision's antialiasing filter in the turned frame.

    For each of its pixels, a triangle as wide as their distance, across and down, over all image pixels.
    """
    _, channels, height, width = image.shape
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    points = torch.stack([x, y], -1).view(-1, 2) - placement.centre[0]
    uv = (points @ torch.linalg.inv(placement.linear[0]).T + 1) * size / 2  # in view pixels
    position = torch.arange(size) + 0.5
    across = (1 - (uv[:, 0] - position[:, None]).abs()).clamp_min(0)
    down = (1 - (uv[:, 1] - position[:, None]).abs()).clamp_min(0)
    weights = (down[:, None] * across[None]).view(size * size, -1)
    weights = weights / weights.sum(1, keepdim=True)
    return (weights @ image.view(channels, -1).T).T.reshape(1, channels, size, size)


def turned(angle: float, side: float, source: int) -> Placement:
    a = math.radians(angle)
    rotation = torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    return Placement(torch.full((1, 2), source / 2), (rotation * side / 2)[None])


@pytest.mark.parametrize(("source", "size", "at_least", "gain"), [(128, 32, 36, 10), (72, 28, 35, 4)])
def test_shrinking_turned_views_are_antialiased(source, size, at_least, gain):
    images = smooth_images(6, source, source, seed=3)
    low, high = 0.7 * source * 0.7 / size, 0.7 * source / size
    for i, angle in enumerate((0.0, 17.0, 45.0, 80.0, 110.0, 163.0)):
        placement = turned(angle, 0.5 * source * (1 + 0.07 * i), source)
        image = images[i : i + 1]
        expected = reference_view(image, placement, size)
        smoothed = psnr(sample_turned(Levels(image, low, high), placement, size, "zeros"), expected)
        plain = psnr(sample_turned(Levels(image, 0.5, 1.0), placement, size, "zeros"), expected)
        assert smoothed > at_least
        assert smoothed > plain + gain


@pytest.mark.parametrize("step", [1.0, 1.2, 2.0, 3.5])
def test_smoothing_has_the_variance_that_sampling_leaves_out(step):
    matrix = smoothing_matrix(41, step, torch.device("cpu")).double()
    row, offset = matrix[20], torch.arange(41) - 20.0
    assert float(row.sum()) == pytest.approx(1, abs=1e-6)
    assert float((row * offset.square()).sum()) == pytest.approx((step**2 - 1) / 6, abs=1e-5)
    torch.testing.assert_close(matrix.sum(0), torch.ones(41, dtype=torch.float64), atol=1e-5, rtol=0)


def test_levels_serve_every_distance_within_a_fourth_of_an_octave():
    images = torch.rand(40, 1, 24, 24)
    low, high = 0.6, 4.4
    levels = Levels(images, low, high)
    steps = torch.linspace(low, high, 40)
    picked = levels.pick(steps)
    assert torch.equal(picked[steps < 1], images[steps < 1])
    for image, out, step in zip(images, picked, steps, strict=True):
        if step < 1:
            continue
        candidates = {
            f: smoothing_matrix(24, f, torch.device("cpu")) for f in np.geomspace(1.0, high, 4 * 16 + 1)
        }
        best = min(
            candidates, key=lambda f: float((candidates[f] @ image[0] @ candidates[f] - out[0]).abs().max())
        )
        assert abs(math.log2(best / step)) <= 0.25 + 0.04


@pytest.mark.parametrize(
    ("shape", "scale", "ratio"),
    [
        ((256, 256), (0.2, 1.0), (3 / 4, 4 / 3)),
        ((256, 256), (0.05, 0.3), (3 / 4, 4 / 3)),
        ((200, 400), (0.5, 1.0), (1 / 3, 3.0)),
    ],
)
def test_boxes_follow_torchvisions_law(shape, scale, ratio):
    n, (height, width) = 4000, shape
    boxes = random_boxes(
        torch.rand(n, BOX_DRAWS), frame([shape], ViewRecipe(size=8, ratio=ratio), CPU), scale, ratio
    )
    image = torch.empty(3, height, width)
    drawn = [T.RandomResizedCrop.make_params(T.RandomResizedCrop(8, scale, ratio), [image]) for _ in range(n)]
    theirs = np.array([[d["width"], d["height"]] for d in drawn], dtype=float)
    ours = boxes.numpy().astype(float)
    assert (ours[:, 0] <= width).all()
    assert (ours[:, 1] <= height).all()
    theirs += np.random.default_rng(0).uniform(-0.5, 0.5, theirs.shape)  # undo the rounding to whole pixels
    for quantity in (lambda b: b[:, 0] * b[:, 1], lambda b: np.log(b[:, 0] / b[:, 1])):
        assert same_law(quantity(ours), quantity(theirs))


def test_boxes_lie_inside_and_their_place_is_uniform():
    law = ViewRecipe(size=16)
    index = torch.arange(4000)
    u = uniform(0, 0, index, 0, PLACE_DRAWS + BOX_DRAWS)
    centre, linear = place(u[:, :PLACE_DRAWS], u[:, PLACE_DRAWS:], frame([(64, 64)], law, CPU), law, 0)
    half = linear.diagonal(dim1=1, dim2=2).abs()
    assert (centre - half >= -1e-4).all()
    assert (centre + half <= 64 + 1e-4).all()
    share = ((centre - half) / (64 - 2 * half))[:, 0].numpy()
    assert same_law(share, np.linspace(0, 1, 4000))
    assert (linear[:, 0, 0] < 0).float().mean() == pytest.approx(0.5, abs=0.04)
    assert (linear[:, 1, 1] > 0).all()


def test_when_no_box_fits_the_largest_in_range_is_taken():
    law = ViewRecipe(size=8)
    box = random_boxes(torch.rand(5, BOX_DRAWS), frame([(10, 100)], law, CPU), (0.9, 1.0), law.ratio)
    torch.testing.assert_close(box, torch.tensor([[10 * 4 / 3, 10.0]]).expand(5, 2))


@pytest.mark.parametrize("name", ["textures", "textures-paper"])
def test_shrinking_bounds_every_distance(name):
    law = recipe(name, 24)
    u = torch.rand(2000, PLACE_DRAWS)
    linear = place(u, None, frame([(72, 72)], law, CPU), law, 0).linear
    step = linear.det().abs().sqrt() * 2 / 24
    low, high = shrinking(law, 0, 72, 72)
    assert step.min() >= low - 1e-4
    assert step.max() <= high + 1e-4
    assert step.min() < low * 1.1
    assert step.max() > high * 0.9


def test_affine_ranges_are_those_of_the_recipe():
    law = recipe("textures", 24)
    u = torch.rand(4000, PLACE_DRAWS)
    centre, linear = place(u, None, frame([(60, 60)], law, CPU), law, 0)
    angle = torch.atan2(linear[:, 1, 0], linear[:, 0, 0])
    assert same_law(angle.numpy(), np.linspace(-math.pi, math.pi, 4000))
    side = linear.det().sqrt() * 2 / 60
    assert side.min() == pytest.approx(0.7, abs=0.01)
    assert side.max() == pytest.approx(0.9, abs=0.01)
    assert (centre - 30).abs().max() == pytest.approx(6, abs=0.1)


def test_centre_view_is_torchvisions_resize_and_crop():
    images = (smooth_images(2, 48, 64) * 255).round().to(torch.uint8)
    ours = centre_view(images, 24, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    theirs = TF.resize(TF.center_crop(images, [48, 48]).float() / 255, [24, 24], antialias=True)
    theirs = TF.normalize(theirs, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    assert psnr(ours, theirs) > 40
    edge = slice(1, -1)
    torch.testing.assert_close(ours[..., edge, edge], theirs[..., edge, edge], atol=1e-5, rtol=0)


def test_centre_view_of_the_right_size_is_the_image_itself():
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    ours = centre_view(images, 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    torch.testing.assert_close(ours, images / 255)
