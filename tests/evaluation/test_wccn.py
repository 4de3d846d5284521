"""Within-class covariance normalisation with each image as its own class."""

import numpy as np
import pytest
import torch

from isosphere.data import ImageSet, Views, open_source, permutation, recipe
from isosphere.errors import RunError
from isosphere.evaluation import WCCN, extract_views, learn_wccn
from isosphere.models import build_encoder


def test_views_differ_as_much_in_every_direction():
    images, views, p = 3000, 3, 6
    mixing = torch.randn(p, p)
    x = torch.randn(images, p) + torch.randn(views, images, p) @ mixing
    metric = WCCN.fit(x, shrinkage=1e-6)
    seen = metric(x.flatten(0, 1)).view_as(x)
    apart = seen - seen.mean(0)
    within = torch.cov(apart.flatten(0, 1).T, correction=0) * views / (views - 1)
    torch.testing.assert_close(within / (torch.trace(within) / p), torch.eye(p), atol=1e-3, rtol=0)
    torch.testing.assert_close(seen.mean((0, 1)), torch.zeros(p), atol=1e-4, rtol=0)


def test_shrinkage_is_towards_the_mean_variance_of_the_views():
    views, x, mean = torch.randn(2, 50, 4) * torch.tensor([1.0, 2, 3, 4]), torch.randn(9, 4), torch.randn(4)
    apart = (views[0] - views[1]).double()
    within = apart.T @ apart / (2 * 50)  # two views: half of the mean square of their difference
    shrunk = 0.7 * within + 0.3 * within.diagonal().mean() * torch.eye(4)
    got = WCCN.fit(views, mean=mean, shrinkage=0.3)(x)
    centred = (x - mean).double()
    expected = centred @ torch.linalg.inv(shrunk) @ centred.T * within.diagonal().mean()
    torch.testing.assert_close((got @ got.T).double(), expected, atol=1e-4, rtol=1e-4)


def test_views_that_do_not_differ_only_centre():
    x = torch.randn(20, 3)
    for views, shrinkage in ((x.expand(2, 20, 3), 0.1), (torch.randn(2, 20, 3), 1.0)):
        got, centred = WCCN.fit(views, shrinkage=shrinkage)(x), x - views.mean((0, 1))
        cosines = torch.corrcoef(torch.stack([got.flatten(), centred.flatten()]))
        torch.testing.assert_close(cosines, torch.ones(2, 2))


def test_a_direction_in_which_views_differ_no_longer_hides_the_neighbour():
    """Two groups apart in one direction, views apart by a hundred times as much in eight others."""
    group = torch.arange(200) % 2
    x = torch.zeros(200, 9)
    x[:, 0] = group * 2.0 - 1
    noise = torch.tensor([0.1, *[10.0] * 8])
    views = x + noise * torch.randn(2, 200, 9)
    points = x + noise * torch.randn(200, 9)

    def found(z):
        z = torch.nn.functional.normalize(z, dim=1)
        return (group[(z @ z.T).fill_diagonal_(-2).argmax(1)] == group).float().mean()

    assert found(points) < 0.7
    assert found(WCCN.fit(views, shrinkage=1e-5)(points)) > 0.95


@pytest.mark.parametrize(
    ("views", "shrinkage"), [((1, 9, 4), 0.1), ((2, 0, 4), 0.1), ((9, 4), 0.1), ((2, 9, 4), 0.0)]
)
def test_views_of_another_shape_are_refused(views, shrinkage):
    with pytest.raises(ValueError, match="at least 2 views"):
        WCCN.fit(torch.randn(views), shrinkage=shrinkage)


def images(count, size=16):
    pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
    return ImageSet(pixels, np.full(count, -1), [f"{i}.png" for i in range(count)])


def test_it_is_learnt_from_two_views_of_some_of_the_images():
    encoder = build_encoder("small-conv", image_size=16)
    views, few = Views(recipe("crops", size=16)), images(40)
    state = torch.get_rng_state()
    got = learn_wccn(encoder, few, views, canvas=16, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    again = learn_wccn(encoder, few, views, canvas=16, seed=3)
    assert torch.equal(got.basis, again.basis)
    # By hand: all 40, in the seed's order.
    shown = few.subset(permutation(40, 3, 0).numpy())
    pair = extract_views(encoder, shown, lambda x, **k: views(x, **k)[:2], seed=3)
    expected = WCCN.fit(torch.stack([v.backbone for v in pair]))
    torch.testing.assert_close(got.basis, expected.basis, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got.mean, expected.mean)


def test_so_many_images_are_drawn(tmp_path):
    encoder, views, shown = build_encoder("small-conv", image_size=16), Views(recipe("crops", size=16)), []

    def count(done, total):
        shown.append((done, total))

    some = images(600)
    got = learn_wccn(encoder, some, views, canvas=16, count=300, progress=count)
    assert shown == [(256, 300), (300, 300)]
    some.images[permutation(600, 0, 0)[300:]] = 0  # those that are not drawn
    again = learn_wccn(encoder, some, views, canvas=16, count=300)
    assert torch.equal(got.basis, again.basis)


def test_images_of_which_none_can_be_read_give_none(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"no picture")
    encoder = build_encoder("small-conv", image_size=16)
    with pytest.raises(RunError, match="can be read"):
        learn_wccn(encoder, open_source(str(tmp_path)), Views(recipe("crops", size=16)), canvas=16)
