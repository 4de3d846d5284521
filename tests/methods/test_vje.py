"""VJE and VI-SimSiam: the bound written out, what cancels, what is stopped, scores, extremes, several ranks."""

import math

import pytest
import torch
from torch import nn

from isosphere.discrepancies import MMD, SIGReg
from isosphere.kernels import HeatKernel
from isosphere.methods import VJE, Regulariser, VISimSiam
from isosphere.methods.vje import (
    Posterior,
    StudentFactor,
    diagonal_gaussian_kl,
    directional_factor,
    evidence_scores,
    log_subdensity_constant,
)
from isosphere.models import InferenceNetwork, ProjectionHead
from isosphere.sphere import log_surface_area, normalize

CHANNELS, DIM = 5, 6


def encoder():
    return nn.Sequential(nn.Linear(CHANNELS, DIM), nn.Tanh())


def build(seed=0, batch_norm=True, outputs=2, **options):
    torch.manual_seed(seed)
    head = InferenceNetwork(DIM, 16, batch_norm=batch_norm, outputs=outputs)
    return VJE(encoder(), head, **options).double()


def some_views(n=12, views=2):
    shared = torch.randn(n, CHANNELS, dtype=torch.float64)
    return [shared + 0.5 * torch.randn(n, CHANNELS, dtype=torch.float64) for _ in range(views)]


def inside(method, views):
    """Embeddings, posteriors and the samples' noise, as the method has them."""
    h, posterior = method._split(torch.stack([method._network(v) for v in views]))
    return h, posterior, method._noise(h, [h.shape[1]])


def student_t(x, m, s, nu):
    """One row at a time, as in a textbook."""
    d = len(x)
    q = sum(((x[i] - m[i]) / s[i]) ** 2 for i in range(d))
    constant = math.lgamma((nu + d) / 2) - math.lgamma(nu / 2) - d / 2 * math.log(nu * math.pi)
    return constant - sum(torch.log(s[i]) for i in range(d)) - (nu + d) / 2 * torch.log(1 + q / nu)


@pytest.mark.parametrize("locals_", [0, 1])
@pytest.mark.parametrize("directional", ["student", "student-product", "cauchy"])
def test_bound_written_out(directional, locals_):
    """Without batch norm, whose statistics pool the views: pair by pair, row by row, two samples."""
    method = build(batch_norm=False, standardise=False, directional=directional, samples=2, kl_weight=0.7)
    views = some_views(4, 2 + locals_)
    loss = method(views)
    h, q, noise = inside(method, views)
    terms = {"directional": [], "radial": [], "kl": []}
    for g in range(2):
        for v in range(len(views)):
            if v == g:
                continue
            for i in range(4):
                r = h[g, i].norm()
                directions, lengths = [], []
                for k in range(2):
                    z = q.mean[v, i] + (q.log_variance[v, i] / 2).exp() * noise[k, v, i]
                    u, centre = h[g, i] / r, z / z.norm()
                    if directional == "student":
                        log_k = log_subdensity_constant(DIM, 5.0, 0.01 / DIM**0.5)
                        directions.append(student_t(u, centre, q.scale[v, i], 5.0) - log_k)
                    elif directional == "student-product":
                        log_k = log_subdensity_constant(DIM, 5.0, 0.01 / DIM**0.5, independent=True)
                        each = zip(u, centre, q.scale[v, i], strict=True)
                        laws = [student_t(a[None], b[None], c[None], 5.0) for a, b, c in each]
                        directions.append(torch.stack(laws).sum() - log_k)
                    else:
                        peak = torch.log((1 - 0.64) / (1 + 0.64 - 1.6 * (u @ centre)))
                        directions.append((DIM - 1) * peak - log_surface_area(DIM))
                    scale = torch.full((1,), 0.2, dtype=torch.float64)
                    lengths.append(student_t(r.log()[None], z.norm().log()[None], scale, 5.0))
                terms["directional"].append(torch.stack(directions).mean())
                terms["radial"].append(torch.stack(lengths).mean())
                v_ = q.log_variance[v, i].exp()
                terms["kl"].append((v_ + q.mean[v, i] ** 2 - 1 - q.log_variance[v, i]).sum() / 2)
    means = {name: torch.stack(values).mean() for name, values in terms.items()}
    for name, value in means.items():
        torch.testing.assert_close(loss.parts[name], value.detach(), rtol=1e-10, atol=1e-10)
    expected = (0.7 * means["kl"] - means["directional"] - means["radial"]) / DIM
    torch.testing.assert_close(loss.total, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("unit", [1.0, DIM**-0.5])
def test_with_tied_variances_the_logarithms_cancel(unit, independent):
    """Minus the bound equals the expression of the docstring, for any mean, variance, target and noise."""
    nu, floor, n = 5.0, 0.05, 50
    mean, raw, noise = torch.randn(3, n, DIM, dtype=torch.float64) * 2
    q = Posterior.of([mean, raw], floor, unit)
    u = normalize(torch.randn(n, DIM, dtype=torch.float64))
    centre = normalize(q.sample(noise))
    v = q.log_variance.exp()
    torch.testing.assert_close(q.scale.square(), unit**2 * v)
    assert v.min() >= floor**2
    factor = StudentFactor(DIM, nu, floor, unit, independent)
    minus_bound = diagonal_gaussian_kl(mean, q.log_variance) - factor(u, centre, q.scale)
    square = (u - centre).square() / v / unit**2
    if independent:
        cost = (nu + 1) / 2 * torch.log1p(square / nu).sum(-1)
    else:
        cost = (nu + DIM) / 2 * torch.log1p(square.sum(-1) / nu)
    without = cost + (v + mean.square()).sum(-1) / 2
    constant = minus_bound - without
    torch.testing.assert_close(constant, constant[:1].expand(n), rtol=1e-11, atol=1e-11)


def test_untied_scales_are_their_own():
    mean, a, b = torch.randn(3, 4, DIM, dtype=torch.float64)
    q = Posterior.of([mean, a, b], 0.01)
    torch.testing.assert_close(q.log_variance, 10 * torch.tanh(a / 10))
    torch.testing.assert_close(q.scale.square(), (10 * torch.tanh(b / 10)).exp() + 1e-4)


def test_scale_is_the_spread_of_a_direction():
    """A z of length sqrt(d) that wavers by sqrt(v) a coordinate has a direction that wavers by the factor's scale."""
    dim, raw = 256, torch.full((1, 256), math.log(0.04), dtype=torch.float64)
    mean = normalize(torch.randn(1, dim, dtype=torch.float64)) * dim**0.5
    factor = directional_factor("student", dim)
    q = Posterior.of([mean, raw], factor.floor, factor.unit)
    directions = normalize(q.sample(torch.randn(500, 1, dim, dtype=torch.float64)))
    wavering = (directions - normalize(mean)).square().mean()
    torch.testing.assert_close(wavering, q.scale.square().mean(), rtol=0.06, atol=0)


@pytest.mark.parametrize("nu", [2.0, 5.0, math.inf])
def test_slope_of_the_factor_is_that_of_its_logarithm(nu):
    """Half of minus the derivative per dimension in one minus the cosine, at the variance and distance it names."""
    factor = directional_factor("student", DIM, degrees_of_freedom=nu)
    angle = torch.tensor(math.acos(0.25), dtype=torch.float64, requires_grad=True)
    rest = torch.zeros(DIM - 2, dtype=torch.float64)
    u = torch.cat([angle.cos()[None], angle.sin()[None], rest])
    scale = torch.full((DIM,), factor.unit * 0.75**0.5, dtype=torch.float64)
    (found,) = torch.autograd.grad(factor(u, torch.eye(DIM, dtype=torch.float64)[0], scale), angle)
    assert -found.item() / angle.sin().item() / DIM / 2 == pytest.approx(factor.slope, rel=1e-6)


@pytest.mark.parametrize("nu", [2.0, 5.0, math.inf])
def test_slope_of_independent_features_is_that_of_an_even_distance(nu):
    factor = directional_factor("student-product", DIM, degrees_of_freedom=nu)
    gap = torch.tensor(0.75, dtype=torch.float64, requires_grad=True)  # one minus the cosine
    u = torch.zeros(DIM, dtype=torch.float64)
    centre = (2 * gap / DIM).sqrt() * torch.ones(DIM, dtype=torch.float64)
    scale = torch.full((DIM,), factor.unit * 0.75**0.5, dtype=torch.float64)
    (found,) = torch.autograd.grad(factor(u, centre, scale), gap)
    assert -found.item() / DIM / 2 == pytest.approx(factor.slope, rel=1e-6)


def test_degrees_of_freedom_weigh_features_of_the_product_and_whole_rows_of_the_multivariate_law():
    """Gradients in the direction against the Gaussian limit's: parallel for the one, not for the other."""
    generator = torch.Generator().manual_seed(0)
    u, centre = normalize(torch.randn(2, 64, DIM, generator=generator, dtype=torch.float64))
    scale = torch.full((DIM,), DIM**-0.5, dtype=torch.float64)

    def cosine(name):
        gradients = []
        for nu in (1.0, math.inf):
            x = centre.clone().requires_grad_()
            factor = directional_factor(name, DIM, degrees_of_freedom=nu)
            gradients.append(torch.autograd.grad(factor(u, x, scale).sum(), x)[0])
        return nn.functional.cosine_similarity(*gradients)

    torch.testing.assert_close(cosine("student"), torch.ones(64, dtype=torch.float64))
    assert cosine("student-product").mean() < 0.95


@pytest.mark.parametrize("stop", [True, False])
def test_no_gradient_reaches_the_target(stop):
    method = build(stop_gradient=stop, batch_norm=False, standardise=False)
    h, q, _ = inside(method, some_views())
    h = h.detach().requires_grad_()
    fixed = Posterior(*(part.detach() for part in q))
    fixed.mean.requires_grad_()
    method.bound(h, fixed).total.backward()
    assert fixed.mean.grad.abs().max() > 0
    assert (h.grad is None) == stop
    if not stop:
        assert h.grad.abs().max() > 0


def test_base_measures():
    """h = r u: dh = r^d dS(u) d(log r); both forms of the score differ by d log r, and the parts add up."""
    method = build().eval()
    x = some_views()[0]
    scores = method.scores(x)
    h, _, _ = inside(method, [x])
    length = DIM * h[0].norm(dim=1).log()
    for name in ("elbo", "elbo-mean", "importance", "radial"):
        torch.testing.assert_close(scores[name] - scores[f"{name}|h"], length)
    parts = scores["directional"] + scores["radial"] + scores["kl"]
    torch.testing.assert_close(parts, scores["elbo-mean"])


def test_the_bound_is_a_bound():
    """In d = 2 with the latent integrated on a grid: elbo <= importance <= log p, and mass over (u, log r) <= 1."""
    torch.manual_seed(0)
    nu, floor = 5.0, 0.3
    q = Posterior.of([torch.tensor([[0.4, -0.2]]).double(), torch.tensor([[-1.0, 0.3]]).double()], floor)
    factor = StudentFactor(2, nu, floor)
    line = torch.linspace(-7, 7, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    prior = (-grid.square().sum(1) / 2).exp() / (2 * math.pi) * (line[1] - line[0]) ** 2
    u = normalize(torch.tensor([[1.0, 0.5]], dtype=torch.float64))
    evidence = (prior * factor(u, normalize(grid), q.scale).exp()).sum().log()
    noise = torch.randn(4000, 1, 2, dtype=torch.float64)
    scores = evidence_scores(u, q, factor, None, noise)
    assert set(scores) == {"elbo", "elbo-mean", "importance", "directional", "kl", "variance"}
    assert scores["elbo"].item() < evidence.item()
    assert scores["importance"].item() == pytest.approx(evidence.item(), abs=0.04)
    angle = torch.arange(720, dtype=torch.float64) * (2 * math.pi / 720)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    coarse = grid[::97]
    mass = factor(circle[:, None], normalize(coarse), q.scale).exp().sum(0) * (2 * math.pi / 720)
    assert mass.max() <= 1


def test_scores_do_not_depend_on_the_batch_and_repeat():
    method = build().eval()
    x = some_views(10)[0]
    state = torch.get_rng_state()
    whole = method.scores(x)
    assert torch.equal(torch.get_rng_state(), state)
    halves = [method.scores(part) for part in (x[:3], x[3:])]
    for name, values in whole.items():
        assert values.shape == (10,)
        torch.testing.assert_close(values, torch.cat([half[name] for half in halves]))
    other = method.scores(x, seed=1)
    assert not torch.equal(other["elbo"], whole["elbo"])
    assert torch.equal(other["elbo-mean"], whole["elbo-mean"])


def test_samples_move_with_after_step_in_training_alone():
    method, views = build(), some_views()
    first = method(views).total
    assert torch.equal(method(views).total, first)
    method.after_step(0.5)
    assert not torch.equal(method(views).total, first)
    assert int(method.draw) == 1
    method.eval()
    method.after_step(0.5)
    assert int(method.draw) == 1


@pytest.mark.parametrize("spread", [False, True])
def test_embedding_is_a_direction_of_h_or_with_a_discrepancy_of_the_mean(spread):
    method = build(regulariser=Regulariser(MMD(HeatKernel(DIM))) if spread else None).eval()
    x = some_views()[0]
    features, embedding = method.embed(x)
    h, posterior, _ = inside(method, [x])
    torch.testing.assert_close(embedding, normalize(posterior.mean[0] if spread else h[0]))
    torch.testing.assert_close(features, method.encoder(x).float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logs", [-1e30, -200.0, 0.0, 200.0, 1e30])
@pytest.mark.parametrize("nu", [1e-3, 5.0, 1e9, math.inf])
def test_extreme_variances_and_degrees_of_freedom_are_finite(nu, logs, dtype):
    method = build(degrees_of_freedom=nu, standardise=False).to(dtype)
    h = (torch.randn(2, 8, DIM, dtype=dtype) * 1e4).requires_grad_()
    mean = (torch.randn(2, 8, DIM, dtype=dtype) * 1e-4).requires_grad_()
    raw = torch.full((2, 8, DIM), logs, dtype=dtype, requires_grad=True)
    loss = method.bound(h, Posterior.of([mean, raw], method.factor.floor, method.factor.unit))
    loss.total.backward()
    assert loss.total.isfinite()
    assert mean.grad.isfinite().all()
    assert raw.grad.isfinite().all()


def test_rows_of_zeros_are_finite():
    """What a spreading term makes of features behind a ReLU: their log length was the NaN of the first trials."""
    method = build(
        standardise=False, stop_gradient=False, regulariser=Regulariser(MMD(HeatKernel(DIM)), weight=0.5)
    )
    h = torch.randn(2, 8, DIM, dtype=torch.float64)
    h[:, ::2] = 0
    h.requires_grad_()
    mean = torch.zeros(2, 8, DIM, dtype=torch.float64, requires_grad=True)
    raw = torch.full((2, 8, DIM), -30.0, dtype=torch.float64)
    q = Posterior.of([mean, raw], method.factor.floor, method.factor.unit)
    loss = method.bound(h, q)
    loss.total.backward()
    assert loss.total.isfinite()
    assert h.grad.isfinite().all()
    assert mean.grad.isfinite().all()


def test_a_discrepancy_keeps_features_behind_a_relu_from_vanishing_once_they_are_standardised():
    """100 steps at a strong weight: the directions spread and no row dies."""
    torch.manual_seed(0)
    dim = 16
    network = nn.Sequential(nn.Linear(CHANNELS, dim), nn.ReLU())
    discrepancy = MMD(HeatKernel(dim))
    method = VJE(network, InferenceNetwork(dim, 32), regulariser=Regulariser(discrepancy, weight=0.9))
    views = [v.float() for v in some_views(64)]
    optimizer = torch.optim.Adam(method.parameters(), lr=2e-3)
    first = method(views).parts["regulariser"]
    for step in range(100):
        optimizer.zero_grad()
        loss = method(views)
        loss.total.backward()
        optimizer.step()
        method.after_step(step / 100)
    assert loss.total.isfinite()
    assert loss.parts["regulariser"] < 0.8 * first
    h = method.standardise(network(views[0]))
    assert (h.norm(dim=1) > 0.1).all()


def test_balanced_weight_is_kept_in_the_state():
    method = build(regulariser=Regulariser(MMD(HeatKernel(DIM))))
    assert method.weight.isnan()
    assert 0 < method.prepare(n=12, views=2).weight < 1
    assert "regulariser" in method.describe()["weight"]


def test_a_discrepancy_of_euclidean_space_takes_the_embeddings_and_not_their_directions():
    test = SIGReg(DIM)
    method = build(regulariser=Regulariser(test, weight=0.5))
    views = some_views()
    h = method._split(*method.outputs(views))[0]
    torch.testing.assert_close(method(views).parts["regulariser"], test(h).mean().detach())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"directional": "gauss"}, "expected 'student', 'student-product' or 'cauchy'"),
        ({"directional": "cauchy", "sigma_min": 0.1}, "has no sigma_min"),
        ({"directional": "cauchy", "rho": 1.0}, "rho=1.0"),
        ({"rho": 0.5}, "has no rho"),
        ({"directional": "cauchy", "unit": 1.0}, "has no unit"),
        ({"sigma_min": 0.0}, "sigma_min=0"),
        ({"unit": 0.0}, "unit=0"),
        ({"degrees_of_freedom": -1.0}, "degrees_of_freedom=-1"),
        ({"radial_scale": 0.0}, "radial_scale=0"),
        ({"kl_weight": -1.0}, "kl_weight=-1"),
        ({"samples": 0}, "samples=0"),
        ({"global_views": 0}, "global_views=0"),
        ({"directional": "cauchy", "outputs": 3}, "3 outputs, expected 2"),
        ({"outputs": 4}, "4 outputs"),
    ],
)
def test_wrong_use_is_refused_in_words(options, words):
    with pytest.raises(ValueError, match=words):
        build(**options)


def test_inference_network_refuses_what_it_cannot_be():
    with pytest.raises(ValueError, match="layers=1"):
        InferenceNetwork(4, layers=1)
    assert not any(isinstance(m, nn.BatchNorm1d) for m in InferenceNetwork(4, batch_norm=False).modules())
    assert directional_factor("student", 4, degrees_of_freedom=3.0) == StudentFactor(4, 3.0, 0.01, 0.5)


def vi_simsiam(**options):
    return VISimSiam(
        encoder(), nn.Linear(DIM, DIM), ProjectionHead(DIM, DIM + 1, 4, bias=True), **options
    ).double()


def test_vi_simsiam_written_out():
    method, views = vi_simsiam(kl_weight=0.3), some_views(5)
    loss = method(views)
    both = [method.head(method.encoder(v)) for v in views]
    guesses = method.predictor(torch.cat(both)).chunk(2)  # one batch: its norm pools the views
    logs, divergences = [], []
    for g, v in ((0, 1), (1, 0)):
        for i in range(5):
            z, p, a = both[g][i], guesses[v][i, :DIM], guesses[v][i, DIM]
            kappa, beta = DIM * torch.log1p(a.exp()), (DIM - 1) / 2
            alpha = kappa + beta
            normaliser = (
                (alpha + beta) * math.log(2)
                + beta * math.log(math.pi)
                + torch.lgamma(alpha)
                - torch.lgamma(alpha + beta)
            )
            logs.append(kappa * torch.log1p(z @ p / z.norm() / p.norm()) - normaliser)
            entropy = normaliser - kappa * (math.log(2) + torch.digamma(alpha) - torch.digamma(alpha + beta))
            divergences.append(log_surface_area(DIM) - entropy)
    expected = (0.3 * torch.stack(divergences).mean() - torch.stack(logs).mean()) / DIM
    torch.testing.assert_close(loss.total, expected, rtol=1e-9, atol=1e-10)


def test_vi_simsiam_learns_which_images_are_uncertain():
    """Rows whose views differ get a smaller concentration than rows whose views agree."""
    torch.manual_seed(0)
    method = vi_simsiam()
    generator = torch.Generator().manual_seed(1)
    noisy = torch.arange(64) % 2 == 1
    optimizer = torch.optim.Adam(method.parameters(), lr=5e-3)
    base = torch.randn(64, CHANNELS, generator=generator, dtype=torch.float64)
    base[:, 0] = torch.where(noisy, 2.0, -2.0)

    def view():
        draws = torch.randn(64, CHANNELS, generator=generator, dtype=torch.float64)
        return base + torch.where(noisy, 2.0, 0.05)[:, None] * draws * torch.tensor([0.0, 1, 1, 1, 1])

    for step in range(150):
        optimizer.zero_grad()
        method([view(), view()]).total.backward()
        optimizer.step()
        method.after_step(step / 150)
    scores = method.eval().scores(base)
    assert scores["concentration"][~noisy].median() > 1.5 * scores["concentration"][noisy].median()
    assert scores["likelihood"].shape == (64,)


BUILD = {
    "student": lambda: build(batch_norm=False, standardise=False),
    "product": lambda: build(batch_norm=False, standardise=False, directional="student-product"),
    "student, two samples": lambda: build(batch_norm=False, standardise=False, samples=2, kl_weight=0.2),
    "cauchy": lambda: build(batch_norm=False, standardise=False, directional="cauchy"),
    "with mmd": lambda: build(
        batch_norm=False, standardise=False, regulariser=Regulariser(MMD(HeatKernel(DIM)))
    ),
    "vi-simsiam": lambda: VISimSiam(
        encoder(), nn.Linear(DIM, DIM), nn.Linear(DIM, DIM + 1), kl_weight=0.1
    ).double(),
}


def total_and_gradient(rank, group, name, views, state):
    torch.manual_seed(rank)
    method = BUILD[name]()
    method.load_state_dict(state)
    method.group = group
    loss = method(views)
    loss.total.backward()
    gradients = {k: p.grad for k, p in method.named_parameters()}
    return loss.total.detach(), loss.parts, gradients, method.state_dict().get("regulariser.weight")


@pytest.mark.parametrize("counts", [(7, 3), (4, 2, 6)], ids=str)
@pytest.mark.parametrize("name", BUILD)
def test_ranks_equal_one_process(ranks, name, counts):
    state = BUILD[name]().prepare(n=sum(counts), views=3).state_dict()
    views = [[torch.randn(n, CHANNELS, dtype=torch.float64) for _ in range(3)] for n in counts]
    whole = [torch.cat(v) for v in zip(*views, strict=True)]
    total, parts, gradients, weight = total_and_gradient(0, False, name, whole, state)
    outcomes = ranks.run(total_and_gradient, len(counts), [(name, mine, state) for mine in views])
    for theirs, their_parts, _, their_weight in outcomes:
        torch.testing.assert_close(theirs, total, rtol=1e-9, atol=1e-10)
        assert their_weight == weight
        for key, value in parts.items():
            torch.testing.assert_close(their_parts[key], value, rtol=1e-9, atol=1e-10)
    for key, gradient in gradients.items():
        averaged = sum(o[2][key] for o in outcomes) / len(counts)
        torch.testing.assert_close(averaged, gradient, rtol=1e-7, atol=1e-9, msg=key)
