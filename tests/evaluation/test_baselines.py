"""Baselines: against scikit-learn, and the invariances that the descriptor claims."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from isosphere.data import Views, recipe, textures
from isosphere.evaluation import (
    extract_views,
    instance_ranks,
    instance_retrieval,
    pca_whitened,
    pixels,
    rotation_invariant_descriptor,
    standardised,
)


def test_pixels_are_the_image():
    x = torch.randint(0, 256, (3, 3, 6, 6), dtype=torch.uint8)
    assert torch.equal(pixels(x), x.flatten(1) / 255)
    small = pixels(x, size=3).view(3, 3, 3, 3)
    torch.testing.assert_close(small[:, :, 0, 0], (x[:, :, :2, :2] / 255).mean((2, 3)))


@pytest.mark.parametrize(("n", "p"), [(200, 12), (30, 50)])
def test_whitening_is_scikit_learns_up_to_signs(n, p):
    train, test = torch.randn(n, p) * torch.linspace(0.1, 3, p) + 2, torch.randn(25, p)
    got_train, got_test = pca_whitened(train, test, 7)
    model = PCA(7, whiten=True, svd_solver="full").fit(train.double().numpy())
    # scikit-learn divides by n - 1, here by n.
    expected = model.transform(test.double().numpy()) * (n / (n - 1)) ** 0.5
    sign = np.sign((expected * got_test.numpy()).sum(0))
    np.testing.assert_allclose(got_test.numpy(), expected * sign, rtol=2e-4, atol=2e-4)
    torch.testing.assert_close(got_train.T @ got_train / n, torch.eye(7), atol=1e-4, rtol=0)


def test_whitening_refuses_directions_without_variance():
    train = torch.randn(5, 20)
    with pytest.raises(ValueError, match="expected 1 to 4"):
        pca_whitened(train, train, 5)
    with pytest.raises(ValueError, match="\\(n, p\\) and \\(m, p\\)"):
        pca_whitened(train, train[:, 1:], 2)


def wood(n, split="test", size=72):
    return textures("wood", torch.arange(n), size=size, split=split)[:, None]


def test_descriptor_is_exact_under_quarter_turns_and_flips():
    x = wood(10, size=48)
    whole = rotation_invariant_descriptor(x)
    for turned in (x.rot90(1, (2, 3)), x.rot90(2, (2, 3)), x.flip(3)):
        torch.testing.assert_close(rotation_invariant_descriptor(turned), whole, atol=2e-3, rtol=1e-3)


def test_descriptor_ignores_brightness_contrast_colour_planes_and_what_is_outside_the_disk():
    x = wood(6, size=48).float() / 255
    whole = rotation_invariant_descriptor(x)
    torch.testing.assert_close(rotation_invariant_descriptor(0.5 * x + 3), whole, atol=2e-3, rtol=1e-3)
    coloured = rotation_invariant_descriptor(x.expand(-1, 3, -1, -1))
    torch.testing.assert_close(coloured, whole, atol=1e-3, rtol=1e-3)
    corners = x.clone()
    corners[..., :6, :6] = 0
    torch.testing.assert_close(rotation_invariant_descriptor(corners), whole)


def test_descriptor_of_a_wave_peaks_at_its_ring():
    t = torch.arange(64) / 64
    short, long = [(torch.sin(2 * np.pi * f * t) * torch.ones(64, 1))[None, None] for f in (16, 4)]
    spectra = [rotation_invariant_descriptor(w, quantiles=1, rings=10)[0, 1:] for w in (short, long)]
    assert spectra[0].argmax() == int(10 * np.log(16) / np.log(32))
    assert spectra[1].argmax() == int(10 * np.log(4) / np.log(32))


def test_descriptor_of_a_constant_image_is_finite_and_small_images_are_refused():
    assert torch.isfinite(rotation_invariant_descriptor(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))).all()
    with pytest.raises(ValueError, match="at least 8"):
        rotation_invariant_descriptor(torch.zeros(1, 3, 7, 16, dtype=torch.uint8))
    with pytest.raises(ValueError, match="channels"):
        rotation_invariant_descriptor(torch.zeros(3, 16, 16))


def test_descriptor_is_a_strong_baseline_on_rotated_textures():
    """A baseline that is easily beaten would prove nothing: 200 images of wood, chance is 1 %."""
    views = Views(recipe("textures", 48))
    train, test = wood(300, "train").expand(-1, 3, -1, -1), wood(200).expand(-1, 3, -1, -1)
    fitted = extract_views(rotation_invariant_descriptor, train, views, seed=1)[0].head
    one, two = (f.head for f in extract_views(rotation_invariant_descriptor, test, views, seed=2))
    _, first, second = standardised(fitted, one, two, shrinkage=0.5)
    assert instance_retrieval(first, second)["recall@1"].value > 0.35
    raw = [pixels(view) for view in views(test, index=torch.arange(200), epoch=0, seed=2)]
    assert instance_ranks(raw[0], raw[1]).recall(1).mean() < 0.1
