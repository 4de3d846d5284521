"""SimCLR, AlignUniform, SimSiam, VICReg and Barlow Twins against their published formulas, written out."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from isosphere.discrepancies import KL
from isosphere.kernels import VonMisesFisherKernel
from isosphere.methods import AlignUniform, BarlowTwins, SimCLR, SimSiam, VICReg, nt_xent
from isosphere.methods._pairs import directed_pairs, undirected_pairs
from isosphere.models import ProjectionHead
from isosphere.sphere import log_vmf_normalizer, normalize, sample_uniform

N, D = 10, 6


def parts():
    return nn.Identity(), nn.Identity()


def raw(views=2, n=N, d=D):
    return torch.randn(views, n, d, dtype=torch.float64)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def naive_simclr(x, y, tau):
    rows = [v / v.norm() for v in torch.cat([x, y])]
    n, total = len(x), 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        others = sum(torch.exp(rows[i] @ rows[j] / tau) for j in range(2 * n) if j != i)
        total -= torch.log(torch.exp(rows[i] @ rows[partner] / tau) / others)
    return total / (2 * n)


def naive_align_uniform(x, y, weight, t, power):
    x, y = functional.normalize(x), functional.normalize(y)
    n = len(x)
    align = mean((a - b).norm() ** power for a, b in zip(x, y, strict=True))
    spread = [
        torch.log(mean(torch.exp(-t * (v[i] - v[j]) @ (v[i] - v[j])) for i in range(n) for j in range(i)))
        for v in (x, y)
    ]
    return (1 - weight) * align + weight * mean(spread)


def naive_simsiam(p1, p2, z1, z2):
    def d(p, z):
        return -mean(a @ b / a.norm() / b.norm() for a, b in zip(p, z.detach(), strict=True))

    return d(p1, z2) / 2 + d(p2, z1) / 2


def naive_vicreg(x, y, weights, eps):
    (n, d), terms = x.shape, []
    for v in (x, y):
        centred = v - v.sum(0) / n
        moments = sum(torch.outer(r, r) for r in centred) / (n - 1)
        variance = sum(max(torch.zeros(()), 1 - torch.sqrt(moments[k, k] + eps)) for k in range(d)) / d
        covariance = sum(moments[k, l] ** 2 for k in range(d) for l in range(d) if k != l) / d
        terms.append((variance, covariance))
    similar = sum((a - b) @ (a - b) for a, b in zip(x, y, strict=True)) / (n * d)
    (v1, c1), (v2, c2) = terms
    return weights[0] * similar + weights[1] * (v1 + v2) / 2 + weights[2] * (c1 + c2)


def naive_barlow(x, y, weight):
    n, d = x.shape
    x, y = ((v - v.mean(0)) / torch.sqrt(v.var(0, correction=0) + 1e-5) for v in (x, y))
    c = [[x[:, k] @ y[:, l] / n for l in range(d)] for k in range(d)]
    on = sum((1 - c[k][k]) ** 2 for k in range(d))
    off = sum(c[k][l] ** 2 for k in range(d) for l in range(d) if k != l)
    return on + weight * off


CASES = {
    "simclr": (lambda: SimCLR(*parts(), temperature=0.2), lambda x, y: naive_simclr(x, y, 0.2)),
    "align-uniform": (
        lambda: AlignUniform(*parts(), weight=0.3, t=3.0),
        lambda x, y: naive_align_uniform(x, y, 0.3, 3.0, 2),
    ),
    "align-uniform, power 1": (
        lambda: AlignUniform(*parts(), power=1.0),
        lambda x, y: naive_align_uniform(x, y, 0.5, 2.0, 1),
    ),
    "vicreg": (
        lambda: VICReg(*parts(), invariance=7.0, variance=5.0, covariance=3.0),
        lambda x, y: naive_vicreg(x, y, (7.0, 5.0, 3.0), 1e-4),
    ),
    "barlow-twins": (lambda: BarlowTwins(*parts(), weight=0.01), lambda x, y: naive_barlow(x, y, 0.01)),
}


@pytest.mark.parametrize("name", CASES)
def test_published_formula_value_and_gradient(name):
    build, formula = CASES[name]
    z = (0.7 * raw() + 0.2).requires_grad_()
    ours = build()([z[0], z[1]]).total
    theirs = formula(z[0], z[1])
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    a, b = (torch.autograd.grad(loss, z)[0] for loss in (ours, theirs))
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_multi_crop_is_the_mean_over_pairs_with_a_global_view(name):
    """Every global view with each other one; what belongs to single views is averaged over views."""
    build, formula = CASES[name]
    z = raw(4)
    method = build()
    pairs = directed_pairs(2, 4)
    assert pairs == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 2), (1, 3)]
    if name == "simclr" or name == "barlow-twins":
        expected = mean(formula(z[a], z[b]) for a, b in pairs)
        torch.testing.assert_close(method(list(z)).total, expected, rtol=1e-10, atol=1e-12)
    key = "invariance"
    two = [method([z[a], z[b]]).parts[key] for a, b in pairs]
    torch.testing.assert_close(method(list(z)).parts[key], mean(two), rtol=1e-10, atol=1e-12)
    for key in set(method(list(z)).parts) - {"invariance", "redundancy"} if name != "simclr" else ():
        each = [method([v, v]).parts[key] for v in z]
        torch.testing.assert_close(method(list(z)).parts[key], mean(each), rtol=1e-10, atol=1e-12)


def test_shares_of_undirected_pairs():
    for global_views, views in ((1, 2), (2, 2), (2, 5), (3, 4)):
        pairs = undirected_pairs(global_views, views)
        assert sum(share for *_, share in pairs) == pytest.approx(1)
        assert all(a < b and a < global_views for a, b, _ in pairs)
    assert undirected_pairs(2, 3) == [(0, 1, 0.5), (0, 2, 0.25), (1, 2, 0.25)]


def simsiam(views=2, global_views=2):
    head, predictor = nn.Linear(D, D).double(), nn.Linear(D, D).double()
    return SimSiam(nn.Identity(), head, predictor, global_views=global_views), raw(views)


def test_simsiam_formula_value_and_gradient():
    method, x = simsiam()
    ours = method(list(x)).total
    z = [method.head(v) for v in x]
    p = [method.predictor(v) for v in z]
    theirs = naive_simsiam(*p, *z)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    parameters = list(method.parameters())
    for a, b in zip(
        torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_simsiam_multi_crop_has_global_targets_only():
    method, x = simsiam(views=4)
    z = method.head(x)
    p = method.predictor(z)
    expected = -mean(
        functional.cosine_similarity(p[v], z[g], dim=-1).mean() for g in range(2) for v in range(4) if v != g
    )
    torch.testing.assert_close(method(list(x)).total, expected, rtol=1e-10, atol=1e-12)


def test_no_gradient_flows_into_simsiams_targets():
    method, _ = simsiam()
    z, p = raw().requires_grad_(), raw().requires_grad_()
    method.loss(z, p).total.backward()
    assert z.grad is None
    assert p.grad is not None
    assert p.grad.abs().sum() > 0


def collapsed(views=2):
    return torch.randn(D, dtype=torch.float64).expand(views, N, D)


@pytest.mark.parametrize(
    ("build", "value"),
    [
        (lambda: SimCLR(*parts(), temperature=0.1), math.log(2 * N - 1)),
        (lambda: AlignUniform(*parts()), 0.0),
        (lambda: SimSiam(*parts(), nn.Identity()), -1.0),
        (lambda: VICReg(*parts()), 25 * (1 - 1e-2)),
        (lambda: BarlowTwins(*parts()), float(D)),
    ],
    ids=["simclr", "align-uniform", "simsiam", "vicreg", "barlow-twins"],
)
def test_value_at_collapse(build, value):
    assert build()(list(collapsed())).total.item() == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: SimCLR(*parts()), 2),
        (lambda: AlignUniform(*parts()), 2),
        (lambda: SimSiam(*parts(), nn.Identity()), 2),
        (lambda: VICReg(*parts()), 2),
        (lambda: BarlowTwins(*parts()), 8),
    ],
    ids=["simclr", "align-uniform", "simsiam", "vicreg", "barlow-twins"],
)
def test_the_invariance_of_unrelated_views_is_the_documented_one(build, expected):
    method = build()
    method.head = nn.Identity()
    with torch.no_grad():
        found = method(list(torch.randn(2, 4000, 8))).parts["invariance"].item()
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    "build",
    [
        lambda: SimCLR(*parts()),
        lambda: AlignUniform(*parts()),
        lambda: AlignUniform(*parts(), power=1.0),
        lambda: SimSiam(*parts(), nn.Identity()),
        lambda: VICReg(*parts()),
        lambda: BarlowTwins(*parts()),
    ],
)
@pytest.mark.parametrize("kind", ["zero row", "all zero", "collapsed", "same views"])
def test_degenerate_rows_stay_finite(build, kind):
    z = raw().float()
    if kind == "zero row":
        z[0, 3] = 0
    elif kind == "all zero":
        z.zero_()
    elif kind == "collapsed":
        z = collapsed().float().clone()
    else:
        z[1] = z[0]
    z.requires_grad_()
    total = build()([z[0], z[1]]).total
    assert total.isfinite()
    total.backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_nt_xent_is_alignment_and_a_kl_to_the_uniform_law():
    """The denominator is the pair sum of the leave-one-out KL with concentration 1/tau, over both views' rows."""
    tau, d, n = 0.25, 12, 20
    x, y = (normalize(torch.randn(n, d, dtype=torch.float64)) for _ in range(2))
    attraction, repulsion = nt_xent(x, y, tau)
    kernel = VonMisesFisherKernel(d, 1 / tau)
    kl = KL(kernel, scale="nats")(torch.cat([x, y]))
    torch.testing.assert_close(attraction, (x - y).square().sum(1).mean(), rtol=1e-12, atol=0)
    expected = kl + kernel.log_mean + math.log(2 * n - 1)
    torch.testing.assert_close(repulsion, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_simclrs_expansion_ratio_is_one_at_any_temperature(temperature):
    """z = pole + eps x with a within-share r: from collapse the loss falls if and only if r < 1."""
    n, d = 200, 16
    image, noise = torch.randn(1, n, d, dtype=torch.float64), torch.randn(2, n, d, dtype=torch.float64)
    for v in (image, noise):
        v[..., 0] = 0
        v -= v.mean(1, keepdim=True)
    noise -= noise.mean(0)  # opposite in the two views, so that the share is exact
    noise *= (image.square().mean() / noise.square().mean()).sqrt()
    noise -= image * (noise * image).sum() / (2 * image.square().sum())
    pole = torch.zeros(d, dtype=torch.float64)
    pole[0] = 1
    method = SimCLR(*parts(), temperature=temperature)

    def total(share):
        # Opposite noise doubles the squared distance of a pair: half of it is a within-share of r.
        x = (1 - share / 2) ** 0.5 * image + (share / 2) ** 0.5 * noise
        return method.loss(normalize(pole + 1e-3 * x)).total.item()

    collapse = math.log(2 * n - 1)
    assert total(0.9) < collapse - 1e-9
    assert total(1.1) > collapse + 1e-9


def test_align_uniforms_expansion_ratio():
    method = AlignUniform(*parts(), weight=0.2)
    assert method.describe()["expansion ratio"] == "r* = 0.5"  # w S / ((1 - w) a), S = 2t, a = 2
    facts = method.describe(list(torch.randn(2, 40, 5)))
    assert "r_min" in facts["expansion ratio"]
    assert "power 1" in AlignUniform(*parts(), power=1.0).describe()["expansion ratio"]


def test_vicreg_and_barlow_need_two_rows():
    for method in (VICReg(*parts()), BarlowTwins(*parts())):
        with pytest.raises(ValueError, match="got 1 row"):
            method(list(torch.randn(2, 1, D)))


def test_uniform_rows_have_the_uniformity_of_the_uniform_law():
    z = sample_uniform(2 * 1500, 64, generator=torch.Generator().manual_seed(0)).view(2, 1500, 64)
    loss = AlignUniform(*parts()).loss(z)
    expected = -4 + log_vmf_normalizer(4.0, 64)  # -2t + log 0F1(; d/2; t^2)
    assert loss.parts["regulariser"].item() == pytest.approx(float(expected), abs=0.003)
    assert loss.parts["invariance"].item() == pytest.approx(2, abs=0.03)


def test_heads_as_published():
    head = ProjectionHead(2048, 128, 64, last="normalised")
    assert [type(m).__name__ for m in head.layers] == [
        "Linear",
        "BatchNorm1d",
        "ReLU",
        "Linear",
        "BatchNorm1d",
    ]
    assert all(m.bias is None for m in head.modules() if isinstance(m, nn.Linear))
    siamese = ProjectionHead(8, 8, 8, 3, last="standardised")
    assert siamese.layers[-1].weight is None
    assert ProjectionHead(8, 8, 2, bias=True).layers[-1].bias is not None
    assert len(ProjectionHead(8, 4, layers=1).layers) == 1
    with pytest.raises(ValueError, match="layers=0"):
        ProjectionHead(8, 4, layers=0)
    with pytest.raises(ValueError, match="last='none'"):
        ProjectionHead(8, 4, last="none")


def test_the_repulsion_is_its_formula():
    method, z = SimCLR(*parts(), temperature=0.2), normalize(torch.randn(2, 9, 5, dtype=torch.float64))
    torch.testing.assert_close(method.repel(z), method.repel.reference(z))
