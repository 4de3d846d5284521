"""The JEPA's loss written out, its weights, its teacher, and the growth law at collapse."""

import math

import pytest
import torch
from torch import nn

from isosphere.discrepancies import KL, MMD, Mixture, SIGReg, SUSReg, build_discrepancy
from isosphere.errors import UsageError
from isosphere.kernels import HeatKernel, VonMisesFisherKernel
from isosphere.methods import (
    JEPA,
    balanced_weight,
    build_method,
    expansion_ratio,
    invariance_slope,
    signal_share,
    spread_value,
    weight_of_expansion,
)
from isosphere.models import MLPHead, build_encoder
from isosphere.sphere import normalize

DIM = 8


def flat(pixels):
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 10))


def linear_jepa(discrepancy, **options):
    return JEPA(flat(12), nn.Linear(10, DIM, bias=False), discrepancy, **options)


def some_views(n=16, count=2, small=0):
    return [torch.randn(n, 3, 2, 2) for _ in range(count)] + [torch.randn(n, 3, 2, 2) for _ in range(small)]


@pytest.mark.parametrize("locals_", [0, 3])
@pytest.mark.parametrize("space", ["sphere", "euclidean"])
def test_loss_written_out(locals_, space):
    test = MMD(HeatKernel(DIM)) if space == "sphere" else SIGReg(DIM)
    method = linear_jepa(test, weight=0.3)
    views = some_views(small=locals_)
    loss = method(views)
    z = torch.stack([method.head(method.encoder(v)) for v in views])
    if space == "sphere":
        z = z / z.norm(dim=-1, keepdim=True)
    mu = (z[0] + z[1]) / 2
    agreement = sum(((mu - v) ** 2).sum(1).mean() for v in z) / len(views)
    spread = sum(test(v) for v in z) / len(views)
    torch.testing.assert_close(loss.parts["invariance"], agreement.detach())
    torch.testing.assert_close(loss.parts["regulariser"], spread.detach())
    torch.testing.assert_close(loss.total, 0.7 * agreement + 0.3 * spread)


def test_lejepa_weight_converts():
    """LeJEPA's total, mean over dimensions, has our gradient up to a factor at the converted weight."""
    lam, views = 0.05, some_views()
    ours = linear_jepa(SIGReg(DIM), weight=DIM * lam / (1 - lam) / (1 + DIM * lam / (1 - lam)))
    z = torch.stack([ours.head(ours.encoder(v)) for v in views])
    theirs = (1 - lam) * (z - z.mean(0)).square().mean() + lam * ours.discrepancy(z).mean()
    parameters = list(ours.parameters())
    a = torch.cat([g.flatten() for g in torch.autograd.grad(theirs, parameters)])
    b = torch.cat([g.flatten() for g in torch.autograd.grad(ours(views).total, parameters)])
    torch.testing.assert_close(a / a.norm(), b / b.norm(), rtol=1e-4, atol=1e-6)


def test_views_of_one_size_share_one_forward():
    method = JEPA(
        nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12)), nn.Linear(12, DIM), MMD(HeatKernel(DIM)), weight=0.5
    )
    views = some_views(small=2)
    method(views)
    assert int(method.encoder[1].num_batches_tracked) == 1
    assert torch.allclose(
        method.encoder[1].running_mean, 0.1 * torch.cat(views).flatten(1).mean(0), atol=1e-6
    )


def test_no_gradient_is_stopped_without_a_teacher_and_the_centre_is_free_of_it_with_one():
    views = some_views(
        small=2
    )  # two global views alone pull the same with and without: their residuals cancel
    free = linear_jepa(MMD(HeatKernel(DIM)), weight=0.5)
    taught = linear_jepa(MMD(HeatKernel(DIM)), weight=0.5, teacher=0.9)
    taught.load_state_dict(free.state_dict(), strict=False)
    taught.teacher.follow(nn.Sequential(taught.encoder, taught.head), momentum=0.0)
    torch.testing.assert_close(free(views).total, taught(views).total)
    gradients = []
    for method in (free, taught):
        method.zero_grad()
        method(views).total.backward()
        gradients.append(method.head.weight.grad.clone())
    assert not torch.allclose(gradients[0], gradients[1])
    assert all(p.grad is None for p in taught.teacher.parameters())


@pytest.mark.parametrize("space", ["sphere", "euclidean"])
def test_the_teacher_makes_the_centre_of_the_global_views(space):
    test = MMD(HeatKernel(DIM)) if space == "sphere" else SIGReg(DIM)
    method = linear_jepa(test, weight=0.3, teacher=0.9)
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.add_(torch.randn_like(parameter))
    views = some_views(small=1)

    def embedded(network):
        z = torch.stack([network(v) for v in views])
        return z / z.norm(dim=-1, keepdim=True) if space == "sphere" else z

    z = embedded(nn.Sequential(method.encoder, method.head))
    mu = embedded(method.teacher)[:2].mean(0).detach()
    agreement = sum(((mu - v) ** 2).sum(1).mean() for v in z) / 3
    expected = 0.7 * agreement + 0.3 * sum(test(v) for v in z) / 3
    found = method(views).total
    torch.testing.assert_close(found, expected)
    parameters = [*method.encoder.parameters(), *method.head.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_teacher_follows():
    method = linear_jepa(MMD(HeatKernel(DIM)), weight=0.5, teacher=0.75)
    before = method.teacher.module[1].weight.clone()
    with torch.no_grad():
        method.head.weight.add_(1.0)
    method.after_step(0.001)
    torch.testing.assert_close(method.teacher.module[1].weight, before + 0.25)
    with pytest.raises(ValueError, match="momentum"):
        linear_jepa(MMD(HeatKernel(DIM)), weight=0.5, teacher=1.0)


@pytest.mark.parametrize(
    "discrepancy", [MMD(HeatKernel(DIM)), KL(VonMisesFisherKernel(DIM)), SUSReg(DIM), SIGReg(DIM)]
)
def test_expansion_and_weight_are_inverse(discrepancy):
    weight = weight_of_expansion(discrepancy, 3.0, 32, 0.5)
    assert expansion_ratio(discrepancy, weight, 32, 0.5) == pytest.approx(3.0)
    method = linear_jepa(discrepancy, expansion=3.0).prepare(n=32, views=2)
    assert method.weight.item() == pytest.approx(weight)
    assert method.expansion_ratio(32, 2) == pytest.approx(3.0)


def test_the_cutoff_sets_the_balanced_weight():
    weights = []
    for cutoff in (0.3, None, 0.8):
        method = linear_jepa(MMD(HeatKernel(DIM)), cutoff=cutoff).prepare(n=32, views=2)
        assert method.weight.item() == pytest.approx(
            balanced_weight(method.discrepancy, 32, 0.5, cutoff=cutoff or 0.5)
        )
        weights.append(method.weight.item())
    assert weights == sorted(weights), "a larger cut-off spreads more"


def test_published_weights_have_the_expansion_ratios_of_our_trials():
    heat = HeatKernel(256, time=5 / 256)
    assert expansion_ratio(MMD(heat), 0.05, 256, 0.5) == pytest.approx(0.21, abs=0.006)
    paper = KL(HeatKernel(256, time=2 / 256), scale="paper")
    assert expansion_ratio(paper, 0.5, 256, 0.5) == pytest.approx(0.16, abs=0.03)
    assert expansion_ratio(SUSReg(128), 0.05, 250, 0.5) == pytest.approx(67, rel=0.03)


@pytest.mark.parametrize("locals_", [0, 2])
@pytest.mark.parametrize(
    "discrepancy", [MMD(HeatKernel(DIM)), KL(VonMisesFisherKernel(DIM)), MMD(HeatKernel(DIM), "u")]
)
def test_a_direction_grows_from_collapse_if_and_only_if_its_share_is_below_the_expansion_ratio(
    discrepancy, locals_
):
    """z = pole + eps * x with a within-share r: the loss falls with eps iff r < r*. Views share no noise."""
    n, views = 200, 2 + locals_
    slope, ratio = invariance_slope(2, locals_), 0.4
    weight = weight_of_expansion(discrepancy, ratio, n, slope)
    image = torch.randn(1, n, DIM, dtype=torch.float64)
    noise = torch.randn(views, n, DIM, dtype=torch.float64)
    for v in (image, noise):
        v[..., 0] = 0
        v -= v.mean(1, keepdim=True)
    pole = torch.zeros(DIM, dtype=torch.float64)
    pole[0] = 1
    method = linear_jepa(discrepancy, weight=weight)

    def total(eps, share):
        z = normalize(pole + eps * ((1 - share) ** 0.5 * image + share**0.5 * noise))
        return method.loss(z).total

    assert total(1e-3, 0.7 * ratio) < total(0.0, 0.7 * ratio)
    assert total(1e-3, 1.4 * ratio) > total(0.0, 1.4 * ratio)


@pytest.mark.parametrize("name", ["mmd-heat", "mmd-bandlimited", "ksd-heat", "kl-vmf", "susreg"])
def test_the_balanced_weight_pours_variance_up_to_one_half(name):
    """Minimise the loss over spectra with evenly spread shares: the cut-off comes out near 1/2."""
    dim, n = 32, 128
    discrepancy = build_discrepancy(name, dim)
    weight = balanced_weight(discrepancy, n, 0.5)
    shares = (torch.arange(dim) + 0.5) / dim
    level = torch.zeros(dim, requires_grad=True)
    optimizer = torch.optim.Adam([level], lr=0.05)
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        spectrum = level.softmax(0)
        z = normalize(torch.randn(n, dim, generator=generator) * (dim * spectrum).sqrt())
        total = (1 - weight) * 0.5 * (spectrum * shares).sum() + weight * discrepancy(z)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        discrepancy.after_step()
    spectrum = level.detach().softmax(0)
    # a line through the clearly used directions crosses zero at the cut-off
    used = spectrum > 0.25 * spectrum.max()
    x, y = shares[used], spectrum[used]
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    cutoff = (x.mean() - y.mean() / slope).item()
    assert 0.3 < cutoff < 0.7
    assert slope < 0


def test_the_share_of_the_signal_is_that_of_the_exact_gradient():
    """The mean over directions is the induced-kernel MMD's gradient, which no direction moves."""
    dim, n, slices = 16, 64, 32
    sliced = SUSReg(dim, num_slices=slices)
    kernel = sliced.kernel()
    scale = n * sliced._rule.sum().item() * (1 - kernel.mean)
    x = torch.randn(n, dim, generator=torch.Generator().manual_seed(0))
    shares = (torch.arange(dim, dtype=torch.float64) + 0.5) / dim
    z = normalize(x * (0.5 - shares).clamp(min=0).sqrt().float()).requires_grad_()

    def along_the_sphere(value):
        (gradient,) = torch.autograd.grad(value, z)
        return gradient - (gradient * z.detach()).sum(-1, keepdim=True) * z.detach()

    signal = along_the_sphere(scale * MMD(kernel)(z)).square().sum()
    power = torch.zeros(())
    for _ in range(512):
        power += along_the_sphere(sliced(z)).square().sum() / 512
        sliced.after_step()
    assert signal_share(SUSReg(dim, num_slices=slices), n, draws=256) == pytest.approx(
        (signal / power).item(), rel=0.05
    )


@pytest.mark.parametrize("kind", [SUSReg, SIGReg])
def test_slices_lighten_the_balanced_weight_by_the_share_of_the_signal(kind):
    odds = []
    for slices in (16, 64, 256):
        test = kind(DIM, num_slices=slices)
        share = signal_share(test, 32)
        noiseless, found = (balanced_weight(test, 32, 0.5, cutoff=c) for c in (0.5, None))
        assert found / (1 - found) == pytest.approx(share * noiseless / (1 - noiseless))
        odds.append(1 / share - 1)
    assert odds[0] / odds[1] == pytest.approx(4, rel=0.5)
    assert odds[1] / odds[2] == pytest.approx(4, rel=0.5)
    assert "of its gradient is signal" in linear_jepa(kind(DIM)).prepare(n=32, views=2).describe()["weight"]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_weight_of_slices_is_found_without_gradients_too(mode):
    method = linear_jepa(SUSReg(DIM))
    with mode():
        method.prepare(n=32, views=2)
        assert math.isfinite(method(some_views(32)).total)
    assert method.weight.item() == pytest.approx(balanced_weight(SUSReg(DIM), 32, 0.5))


def test_an_exact_statistic_is_all_signal_and_a_mixture_of_both_is_not():
    exact, sliced = MMD(HeatKernel(DIM)), SUSReg(DIM, num_slices=8)
    assert signal_share(exact, 32) == 1
    assert balanced_weight(exact, 32, 0.5) == balanced_weight(exact, 32, 0.5, cutoff=0.5)
    assert signal_share(sliced, 32) < signal_share(Mixture([exact, sliced], [0.9, 0.1]), 32) < 1


def test_spread_value_lies_between_uniform_and_collapse():
    discrepancy = MMD(HeatKernel(32))
    assert discrepancy.null(64).mean < spread_value(discrepancy, 64) < spread_value(discrepancy, 64, 0.1) < 1


def test_describe_changes_nothing():
    encoder = build_encoder("small-conv", image_size=16)
    method = build_method("mmd-heat", encoder, dim=16, hidden=32)
    views = [torch.randn(24, 3, 16, 16) for _ in range(2)]
    before = {k: v.clone() for k, v in method.state_dict().items()}
    state = torch.get_rng_state()
    assert method.describe(views)["weight"] == (
        "balanced: directions with under 50% of their variance within images are used, found by prepare"
    )
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in before.items():
        torch.testing.assert_close(method.state_dict()[key], value, rtol=0, atol=0, equal_nan=True)


def test_wrong_use_is_refused_in_words():
    test = MMD(HeatKernel(DIM))
    with pytest.raises(ValueError, match="one of them or none"):
        linear_jepa(test, weight=0.5, expansion=1.0)
    with pytest.raises(ValueError, match="one of them or none"):
        linear_jepa(test, weight=0.5, cutoff=0.3)
    with pytest.raises(ValueError, match="share of variance"):
        linear_jepa(test, cutoff=1.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        linear_jepa(test, weight=1.0)
    for expansion in (-1.0, 0.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="expected a positive number"):
            linear_jepa(test, expansion=expansion)
        with pytest.raises(ValueError, match="expected a positive number"):
            weight_of_expansion(test, expansion, 32, 0.5)
    with pytest.raises(ValueError, match="global_views=0"):
        linear_jepa(test, global_views=0)
    with pytest.raises(ValueError, match="at least 2"):
        linear_jepa(test, weight=0.5)([torch.randn(4, 3, 2, 2)])
    encoder = build_encoder("small-conv", image_size=16)
    with pytest.raises(UsageError, match="Did you mean 'mmd-heat'"):
        build_method("mmd-heet", encoder)
    with pytest.raises(UsageError, match="Did you mean 'num_slices'"):
        build_method("sphere-jepa", encoder, num_slice=3)


def test_head_widths_and_refusal():
    assert MLPHead(4, 3, 5)(torch.randn(6, 4)).shape == (6, 3)
    assert len([m for m in MLPHead(4, 3, 5, layers=2).modules() if isinstance(m, nn.Linear)]) == 2
    with pytest.raises(ValueError, match="layers=0"):
        MLPHead(4, 3, 5, layers=0)
    with pytest.raises(ValueError, match="hidden_dim=-3, expected at least 1"):
        MLPHead(4, 3, -3)


@pytest.mark.parametrize(
    ("options", "source"),
    [({"weight": 0.5}, "given"), ({"expansion": 2.0}, "from expansion"), ({}, "balanced")],
)
def test_describe_says_where_the_weight_comes_from(options, source):
    method = linear_jepa(MMD(HeatKernel(DIM)), **options).prepare(n=16, views=2)
    assert f"({source}" in method.describe(some_views())["weight"]


@pytest.mark.parametrize("name", ["kl-vmf", "sphere-jepa"])
def test_a_step_compiles_to_one_graph(name):
    method = build_method(name, build_encoder("small-conv", image_size=32), dim=16, hidden=32)
    views = [torch.randn(8, 3, 32, 32) for _ in range(2)]
    method.prepare(n=8, views=2)
    eager = method(views).total
    torch._dynamo.reset()
    compiled = torch.compile(method, backend="aot_eager", fullgraph=True)(views).total
    torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-5)
