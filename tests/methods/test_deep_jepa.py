"""A JEPA at two depths: both losses written out, its options, and what it refuses."""

import pytest
import torch
from torch import nn

from isosphere.discrepancies import KL, MMD, SIGReg
from isosphere.errors import UsageError
from isosphere.kernels import HeatKernel, VonMisesFisherKernel
from isosphere.methods import DeepJEPA, balanced_weight, build_method, invariance_slope
from isosphere.models import build_encoder

WIDTH, DIM = 10, 8


def deep(embeddings, features, **options):
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, WIDTH), nn.ReLU())
    return DeepJEPA(encoder, nn.Linear(WIDTH, DIM), embeddings, features, **options)


def some_views(n=16, count=3):
    return [torch.randn(n, 3, 2, 2) for _ in range(count)]


def jepa_loss(z, test, weight):
    mu = (z[0] + z[1]) / 2
    agreement = sum(((mu - v) ** 2).sum(1).mean() for v in z) / len(z)
    return (1 - weight) * agreement + weight * sum(test(v) for v in z) / len(z)


@pytest.mark.parametrize("space", ["sphere", "euclidean"])
def test_loss_written_out(space):
    on_sphere = space == "sphere"
    test = MMD(HeatKernel(DIM)) if on_sphere else SIGReg(DIM)
    inner = KL(VonMisesFisherKernel(WIDTH, concentration=3.0)) if on_sphere else SIGReg(WIDTH)
    method = deep(test, inner, weight=0.3, share=0.2)
    views = some_views()
    loss = method(views)
    f = [method.encoder(v) for v in views]
    pooled = torch.cat(f)  # views of one size share the statistics of batch norm
    mean, variance = pooled.mean(0), pooled.var(0, correction=0)
    y = [(x - mean) / (variance + 1e-5).sqrt() for x in f]
    z = [method.head(x) for x in f]
    if on_sphere:
        y, z = ([x / x.norm(dim=1, keepdim=True) for x in rows] for rows in (y, z))
    torch.testing.assert_close(loss.total, 0.8 * jepa_loss(z, test, 0.3) + 0.2 * jepa_loss(y, inner, 0.3))
    weighed = [
        0.7 * loss.parts[f"{depth}invariance"] + 0.3 * loss.parts[f"{depth}regulariser"]
        for depth in ("", "features_")
    ]
    torch.testing.assert_close(loss.total.detach(), 0.8 * weighed[0] + 0.2 * weighed[1])


def test_the_weights_of_both_depths_are_told_before_the_start():
    method = deep(MMD(HeatKernel(DIM)), MMD(HeatKernel(WIDTH)))
    assert "of the invariance" not in method.describe()["depths"]
    told = method.prepare(n=32, views=3).describe()["depths"]
    assert f"{method.features.weight.item():.4g} of the regulariser" in told


def test_each_depth_has_the_balanced_weight_of_its_own_dimension():
    tests = (
        KL(VonMisesFisherKernel(DIM, concentration=3.0)),
        KL(VonMisesFisherKernel(WIDTH, concentration=3.0)),
    )
    method = deep(*tests).prepare(n=64, views=2)
    found = method.weight.item(), method.features.weight.item()
    assert found == pytest.approx([balanced_weight(t, 64, invariance_slope(2, 0)) for t in tests])
    assert found[0] != found[1]


def test_directions_move_at_both_depths():
    method = build_method(
        "sphere-jepa", build_encoder("small-conv", image_size=32), features=0.5, num_slices=16
    )
    before = int(method.discrepancy.draw), int(method.features.discrepancy.draw)
    method.after_step(0.1)
    assert (int(method.discrepancy.draw), int(method.features.discrepancy.draw)) == (
        before[0] + 1,
        before[1] + 1,
    )


def test_without_the_embeddings_the_head_learns_nothing():
    method = deep(MMD(HeatKernel(DIM)), MMD(HeatKernel(WIDTH)), share=1.0).prepare(n=16, views=3)
    method(some_views()).total.backward()
    assert not method.head.weight.grad.any()
    assert method.encoder[1].weight.grad.any()


def test_it_is_had_by_name_and_by_option_and_says_so():
    encoder = build_encoder("small-conv", image_size=32)
    by_name, by_option = build_method("kl-deep", encoder), build_method("kl-vmf", encoder, features=0.25)
    for method in (by_name, by_option):
        assert isinstance(method, DeepJEPA)
        assert method.describe()["depths"].startswith(
            "0.75 of the loss at the embeddings, 0.25 at the features: KL"
        )
    assert not isinstance(build_method("kl-vmf", encoder), DeepJEPA)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"features": 1.5},
            r"got a share of 1\.5 for the features, expected a number in \(0, 1\]",
        ),
        ({"features": 0.5, "teacher": 0.9}, "got a teacher and a loss of the features, expected one of them"),
    ],
)
def test_what_it_refuses(options, words):
    with pytest.raises(UsageError, match=words):
        build_method("kl-vmf", build_encoder("small-conv", image_size=32), **options)


def test_both_depths_must_lie_in_one_space():
    with pytest.raises(ValueError, match=r"got a euclidean discrepancy of the features.*embeddings: sphere"):
        deep(MMD(HeatKernel(DIM)), SIGReg(WIDTH))


def test_too_few_views_are_refused():
    with pytest.raises(ValueError, match=r"got 1 view\(s\), expected at least 2"):
        deep(MMD(HeatKernel(DIM)), MMD(HeatKernel(WIDTH)))(some_views(count=1))
