"""BYOL written out: its loss, teacher and schedule; its terms on embeddings and on weights."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from isosphere.discrepancies import (
    MMD,
    HypersphericalEnergy,
    SIGReg,
    SUSReg,
    Uniformity,
    build_discrepancy,
    network_energy,
)
from isosphere.errors import UsageError
from isosphere.kernels import HeatKernel
from isosphere.methods import (
    BYOL,
    JEPA,
    Contrastive,
    Momentum,
    NetworkEnergy,
    Regulariser,
    balanced_weight,
    build_method,
    teacher_momentum,
)
from isosphere.methods._network_energy import gradient_norm_ratio
from isosphere.models import build_encoder

D = 6


def networks(dtype=torch.float64):
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 10), nn.Tanh())
    return [
        m.to(dtype)
        for m in (encoder, nn.Linear(10, D), nn.Sequential(nn.Linear(D, 9), nn.ReLU(), nn.Linear(9, D)))
    ]


def some_views(count=2, n=16, dtype=torch.float64):
    return [torch.randn(n, 3, 2, 2, dtype=dtype) for _ in range(count)]


def spread(discrepancy, **options):
    return BYOL(*networks(), terms=[Regulariser(discrepancy, **options)])


def with_another_teacher(method):
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return method


def naive(method, views):
    """Sum of both directions of |p/|p| - z'/|z'||^2, the published order: normalise, difference, square, mean."""
    online = [method.predictor(method.head(method.encoder(v))) for v in views]
    target = [method.teacher.module(v).detach() for v in views]

    def one(p, z):
        return sum((a / a.norm() - b / b.norm()).square().sum() for a, b in zip(p, z, strict=True)) / len(p)

    return one(online[0], target[1]) + one(online[1], target[0])


def test_published_formula_value_and_gradient():
    method, views = with_another_teacher(BYOL(*networks())), some_views()
    ours, theirs = method(views).total, naive(method, views)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    parameters = list(method.online.parameters())
    a, b = (torch.autograd.grad(loss, parameters) for loss in (ours, theirs))
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-12)


def test_multi_crop_has_global_targets_and_keeps_the_scale():
    method, views = with_another_teacher(BYOL(*networks())), some_views(5)
    p = [functional.normalize(method.predictor(method.head(method.encoder(v)))) for v in views]
    z = [functional.normalize(method.teacher(v)) for v in views[:2]]
    terms = [(p[v] - z[g]).square().sum(1).mean() for g in range(2) for v in range(5) if v != g]
    torch.testing.assert_close(method(views).total, 2 * sum(terms) / len(terms), rtol=1e-12, atol=1e-12)


def test_the_teacher_takes_no_gradient_and_the_target_branch_gives_none():
    method, views = BYOL(*networks()), some_views()
    method(views).total.backward()
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())
    features, z, p, targets = (torch.randn(2, 8, D, dtype=torch.float64).requires_grad_() for _ in range(4))
    method.loss(features, z, p, targets).total.backward()
    assert targets.grad is None
    assert z.grad is None
    assert p.grad is not None


def test_schedule_of_the_teacher():
    assert teacher_momentum(0.99, 0.0) == pytest.approx(0.99)
    assert teacher_momentum(0.99, 0.5) == pytest.approx(0.995)
    assert teacher_momentum(0.996, 1.0) == 1.0
    steps = 10
    for k in range(steps + 1):
        expected = 1 - (1 - 0.9) * (math.cos(math.pi * k / steps) + 1) / 2
        assert teacher_momentum(0.9, k / steps) == pytest.approx(expected, abs=1e-15)
    values = [teacher_momentum(0.9, k / 50) for k in range(51)]
    assert values == sorted(values)


def test_the_teacher_follows_by_the_schedule():
    method = BYOL(*networks(), teacher=0.75)
    before = copy.deepcopy(method.teacher.module)
    with torch.no_grad():
        for parameter in method.online.parameters():
            parameter.add_(1.0)
    method.teacher.bounded(0.499)
    method.after_step(0.5)  # keeps 1 - (1 - .75)/2 = .875 of the old
    for old, new in zip(before.parameters(), method.teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.125)
    method.after_step(1.0)
    for old, new in zip(before.parameters(), method.teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.125)


def test_memory_of_the_teacher_is_at_most_a_hundredth_of_the_training():
    teacher = Momentum(nn.Linear(2, 2), 0.99)
    assert [teacher.bounded(k / 20_000) for k in (1, 2, 3)] == [0.99] * 3
    short = Momentum(nn.Linear(2, 2), 0.99)
    for k in range(1, 4):
        assert short.bounded(k / 500) == pytest.approx(0.8, abs=1e-5)  # five steps of five hundred
    resumed = Momentum(nn.Linear(2, 2), 0.99)
    resumed.load_state_dict(short.state_dict())
    assert resumed.bounded(4 / 500) == short.bounded(4 / 500)
    assert Momentum(nn.Linear(2, 2), 0.99).bounded(0.5) == 0


def test_memory_of_the_teacher_can_be_asked_for():
    for build in (
        lambda **memory: BYOL(*networks(), **memory),
        lambda **memory: JEPA(nn.Identity(), nn.Identity(), Uniformity(), teacher=0.99, **memory),
    ):
        a_tenth = build(memory=0.1).teacher
        assert [a_tenth.bounded(k / 500) for k in (1, 2)] == pytest.approx([0.98] * 2, abs=1e-5)
        assert build(memory=1.0).teacher.bounded(1 / 500) == 0.99
    for wrong in (0.0, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"got a memory of .*\(0, 1\]"):
            BYOL(*networks(), memory=wrong)
    with pytest.raises(ValueError, match="no teacher"):
        JEPA(nn.Identity(), nn.Identity(), Uniformity(), memory=0.1)


def test_values_at_collapse_and_for_unrelated_views():
    method = BYOL(nn.Identity(), nn.Identity(), nn.Identity())
    row = torch.randn(D).expand(2, 7, D)
    assert method.loss(row, row, row, row).total.item() == pytest.approx(0, abs=1e-9)
    p, z = torch.randn(2, 5000, 16), torch.randn(2, 5000, 16)
    found = method.loss(p, p, p, z).parts["invariance"].item()
    assert found == pytest.approx(4, rel=0.02)


def test_the_balanced_weight_weighs_unit_rows_against_whatever_space_the_discrepancy_has():
    """BYOL's distances are of unit rows: a Euclidean statistic of d dimensions gets no d times heavier odds."""
    method = BYOL(nn.Identity(), nn.Identity(), nn.Identity(), terms=[Regulariser(SIGReg(D))])
    method.prepare(n=32, views=2)
    there, alone = (balanced_weight(SIGReg(D), 32, 2.0, space=space) for space in ("sphere", None))
    assert method.weight.item() == pytest.approx(there)
    assert alone / (1 - alone) == pytest.approx(D * there / (1 - there))


@pytest.mark.parametrize("place", ["projection", "prediction", "features"])
@pytest.mark.parametrize("kind", ["mmd-heat", "uniformity", "sigreg"])
def test_a_discrepancy_where_it_is_asked_for(place, kind):
    discrepancy = build_discrepancy(kind, 10 if place == "features" else D)
    method = with_another_teacher(spread(discrepancy, place=place, weight=0.3))
    views = some_views()
    x = [method.encoder(v) for v in views]
    z = [method.head(v) for v in x]
    sample = {"features": x, "projection": z, "prediction": [method.predictor(v) for v in z]}[place]
    if discrepancy.space == "sphere":
        sample = [v / v.norm(dim=1, keepdim=True) for v in sample]
    value = sum(discrepancy(v) for v in sample) / 2
    loss = method(views)
    torch.testing.assert_close(loss.parts["regulariser"], value.detach(), rtol=1e-10, atol=1e-12)
    w = method.weight.double()
    assert w.item() == pytest.approx(0.3)
    torch.testing.assert_close(loss.total, (1 - w) * naive(method, views) + w * value, rtol=1e-7, atol=1e-12)


def test_the_balanced_weight_is_that_of_its_own_slope():
    method = spread(MMD(HeatKernel(D)))
    assert method.weight.isnan()
    assert "balanced" in method.describe()["weight"]
    found = method.prepare(n=16, views=2).weight.item()
    assert found == pytest.approx(balanced_weight(MMD(HeatKernel(D)), 16, 2.0), rel=1e-6)


def test_the_slope_of_the_balanced_weight():
    """With the identity as predictor and the student as teacher the gradient is that of 4 times JEPA's invariance."""
    z = torch.randn(2, 9, D, dtype=torch.float64).requires_grad_()
    method = BYOL(nn.Identity(), nn.Identity(), nn.Identity())
    (ours,) = torch.autograd.grad(method.loss(z, z, z, z).total, z)
    unit = functional.normalize(z, dim=-1)
    jepa = (unit - unit.mean(0)).square().sum(-1).mean()
    (theirs,) = torch.autograd.grad(4 * jepa, z)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_directions_move_after_a_step():
    method = spread(SUSReg(D, num_slices=8), weight=0.5)
    method.after_step(0.1)
    assert method.discrepancy.draw == 1


def test_contrastive_term_is_that_of_simclr_on_the_online_projections():
    method = BYOL(*networks(), terms=[Contrastive(temperature=0.2, weight=0.25)])
    views = some_views()
    z = torch.cat([functional.normalize(method.head(method.encoder(v))) for v in views])
    logits = (z @ z.T / 0.2).fill_diagonal_(-math.inf)
    labels = torch.arange(32).roll(16)
    contrast = functional.cross_entropy(logits, labels)
    loss = method(views)
    torch.testing.assert_close(loss.parts["contrastive"], contrast.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        loss.total, 0.75 * naive(method, views) + 0.25 * contrast, rtol=1e-10, atol=1e-12
    )


def naive_energy(weight, power, half_space):
    """Mean over the ordered pairs of different neurons (and their opposites) of the inverse power of the distance."""
    w = [v / v.norm() for v in weight.flatten(1).double()]
    values = []
    for i in range(len(w)):
        for j in range(len(w)):
            for sign in (1, -1) if half_space else (1,):
                if i != j:
                    distance = (w[i] - sign * w[j]).norm()
                    values.append(-distance.log() if power == 0 else distance**-power)
    return torch.stack(values).mean()


@pytest.mark.parametrize("half_space", [False, True])
@pytest.mark.parametrize("power", [0, 1, 2])
def test_energy_of_the_weights_written_out(power, half_space):
    encoder = nn.Sequential(
        nn.Conv2d(3, 6, 2), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6, 5), nn.BatchNorm1d(5)
    )
    head, predictor = nn.Linear(5, D), nn.Linear(D, D)
    online = nn.ModuleList([encoder, head, predictor])
    energy = NetworkEnergy(online, power, half_space, hidden_weight=2.0, output_weight=10.0)
    layers = [encoder[0].weight, encoder[3].weight, head.weight, predictor.weight]
    total = 0.0
    for weight, scale in zip(layers, (2.0, 2.0, 2.0, 10.0), strict=True):
        dim = weight[0].numel()
        expected = HypersphericalEnergy(power, half_space, dim=dim).null(len(weight)).mean
        total += scale * (naive_energy(weight, power, half_space) - expected)
    assert energy.excess(online).item() == pytest.approx(total.item(), rel=1e-4, abs=1e-5)


def test_energy_has_no_gradient_at_norms_and_biases():
    method = build_method("byol-mhe", build_encoder("small-conv", image_size=16), dim=16, hidden=32)
    method.terms[0].excess(method.online).backward()
    touched = {id(p) for p in method.parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    excluded = [p for m in method.online.modules() if isinstance(m, norms) for p in m.parameters()]
    assert excluded
    assert not touched & {id(p) for p in excluded}
    included = [m.weight for m in method.online.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert {id(p) for p in included} == touched


def test_energy_is_an_excess_over_uniform_neurons():
    """About 0 at random initialisation; infinite expectations are replaced by the start."""
    network = nn.ModuleList([nn.Linear(64, 40), nn.Linear(40, 40)])
    start = NetworkEnergy(network).excess(network).item()
    assert abs(start) < 0.01 * network_energy(network, 2.0).item()
    flat = nn.ModuleList([nn.Linear(2, 7), nn.Linear(7, 2)])  # in two dimensions E |x - y|^-2 is infinite
    energy = NetworkEnergy(flat)
    assert math.isinf(HypersphericalEnergy(2, dim=2).null(7).mean)
    two, seven = HypersphericalEnergy(2, dim=2)(flat[0].weight), HypersphericalEnergy(2, dim=7)
    assert energy.expected.item() == pytest.approx(two.item() + seven.null(2).mean, rel=1e-5)
    with pytest.raises(ValueError, match="one of them positive"):
        NetworkEnergy(flat, hidden_weight=0.0, output_weight=0.0)


def test_the_energys_weight_makes_its_gradient_a_given_share_of_the_loss():
    views = some_views(dtype=torch.float32)
    parts = networks(torch.float32)
    method = BYOL(*parts, terms=[energy := NetworkEnergy(nn.ModuleList(parts), ratio=0.25)])
    for looked in (method, method.eval()):
        with pytest.raises(
            RuntimeError, match=r"call method.prepare\(n=..., views=..., batch=\[view, view\]\)"
        ):
            looked(views)
    assert "0.25" in method.describe()["energy"]
    with torch.no_grad():
        found = method.train().prepare(n=16, views=2, batch=views).terms[0].weight.item()
    plain = BYOL(*parts)
    loss, excess = plain(views).total, energy.excess(method.online)
    weights = [m.weight for m in method.online.modules() if isinstance(m, nn.Linear)]
    lengths = [
        torch.cat([g.flatten() for g in torch.autograd.grad(value, weights, retain_graph=True)]).norm()
        for value in (loss, excess)
    ]
    assert found == pytest.approx(0.25 * (lengths[0] / lengths[1]).item(), rel=1e-4)
    assert gradient_norm_ratio(loss, excess, method.online) == pytest.approx(4 * found, rel=1e-4)
    method.prepare(n=16, views=2, batch=some_views(dtype=torch.float32))
    torch.testing.assert_close(method(views).total, loss + found * excess)
    assert energy.weight.item() == found
    assert "weight" in method.describe()["energy"]


def test_a_weight_of_the_energy_is_loaded_and_leaves_no_trace_when_it_is_found():
    encoder = build_encoder("small-conv", image_size=16)
    method, other = (build_method("byol-mhe", encoder, dim=16, hidden=32) for _ in range(2))
    before = {k: v.clone() for k, v in method.state_dict().items()}
    method.prepare(n=8, views=2, batch=some_large_views())
    after = method.state_dict()
    assert {k for k, v in after.items() if not torch.equal(v, before[k])} == {"terms.0.weight"}
    assert all(p.grad is None for p in method.parameters())
    other.load_state_dict(after)
    views = some_large_views()
    assert torch.equal(other(views).parts["energy"], method(views).parts["energy"])


def test_minimising_the_energy_spreads_the_neurons():
    torch.manual_seed(0)
    layer = nn.Linear(3, 5, bias=False)
    network = nn.ModuleList([layer])
    energy = NetworkEnergy(network, 1.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        energy.excess(network).backward()
        optimizer.step()
    # Thomson's problem for five points: 6.474691495 over the unordered pairs.
    assert network_energy(network, 1.0).item() == pytest.approx(6.474691495 / 10, rel=1e-4)


def test_any_discrepancy_by_its_name():
    encoder = build_encoder("small-conv", image_size=16)
    method = build_method("byol", encoder, dim=16, hidden=32, discrepancy="koleo", place="features")
    assert type(method.prepare(n=8, views=2).discrepancy).__name__ == "KoLeo"
    assert "regulariser" in method(some_large_views()).parts
    with pytest.raises(UsageError, match="Did you mean 'koleo'"):
        build_method("byol", encoder, discrepancy="koleos")
    with pytest.raises(UsageError, match="with a discrepancy"):
        build_method("byol", encoder, weight=0.5)


def some_large_views():
    return [torch.randn(8, 3, 16, 16) for _ in range(2)]


@pytest.mark.parametrize("kind", ["zero row", "all zero"])
def test_zero_rows_stay_finite(kind):
    terms = [Regulariser(Uniformity(dim=D)), Contrastive()]
    method = BYOL(nn.Identity(), nn.Identity(), nn.Identity(), terms=terms)
    method.prepare(n=7, views=2)
    z = torch.randn(2, 7, D)
    if kind == "zero row":
        z[0, 2] = 0
    else:
        z.zero_()
    p = z.clone().requires_grad_()
    z = z.requires_grad_()
    total = method.loss(z, z, p, z.detach()).total
    assert total.isfinite()
    total.backward()
    assert p.grad.isfinite().all()
    assert z.grad.isfinite().all()


def test_wrong_use_is_refused_in_words():
    def build(**options):
        return BYOL(*networks(), **options)

    def named(**options):
        return build_method("byol", build_encoder("small-conv", image_size=16), dim=16, hidden=32, **options)

    with pytest.raises(ValueError, match="place='encoder'"):
        Regulariser(SIGReg(D), place="encoder")
    with pytest.raises(ValueError, match="temperature=0"):
        Contrastive(temperature=0.0)
    with pytest.raises(ValueError, match="contrastive weight of 1"):
        Contrastive(weight=1.0)
    with pytest.raises(ValueError, match=r"got terms=Regulariser, Regulariser, expected at most one each of"):
        build(terms=[Regulariser(SIGReg(D)), Regulariser(SIGReg(D))])
    with pytest.raises(ValueError, match="got terms=SIGReg"):
        build(terms=[SIGReg(D)])
    with pytest.raises(ValueError, match="global_views=0"):
        build(global_views=0)
    for options in ({"weight": 0.5}, {"place": "features"}):
        with pytest.raises(UsageError, match="expected it with a discrepancy"):
            named(**options)
    for options in ({"weight_energy": 1.0}, {"energy_ratio": 1.0}, {"power": 1.0}):
        with pytest.raises(UsageError, match="without its term, expected energy=True too"):
            named(**options)
    for options in ({"weight_contrastive": 0.5}, {"temperature": 0.5}):
        with pytest.raises(UsageError, match="without its term, expected contrastive=True too"):
            named(**options)
    assert spread(SIGReg(D)).describe()["discrepancy"].endswith("of the projection")


def test_states_of_earlier_versions_load():
    parts = networks(torch.float32)
    terms = [
        Regulariser(SUSReg(D, num_slices=8), weight=0.3),
        NetworkEnergy(nn.ModuleList(parts), weight=2.0),
    ]
    method = BYOL(*parts, terms=terms)
    names = {
        "terms.0.weight": "weight",
        "terms.0.discrepancy.draw": "discrepancy.draw",
        "terms.1.expected": "energy.expected",
        "terms.1.weight": "weight_energy",
    }
    old = {names.get(k, k): v + 1 for k, v in method.state_dict().items() if k != "terms.0.found_for"}
    assert old.keys() >= set(names.values())
    expected = {k: old[names.get(k, k)] for k in method.state_dict() if k != "terms.0.found_for"}
    method.load_state_dict(old)
    for key, value in expected.items():
        torch.testing.assert_close(method.state_dict()[key], value, msg=key)
