"""What every discrepancy promises, tested over all of them."""

import pickle

import pytest
import torch

from isosphere.discrepancies import (
    DISCREPANCIES,
    KL,
    KSD,
    MMD,
    GaussianKSD,
    GaussianMMD,
    SIGReg,
    SUSReg,
    VISReg,
    build_discrepancy,
)
from isosphere.kernels import HeatKernel, VonMisesFisherKernel
from isosphere.sphere import normalize, sample_uniform

DIM = 8
ALL = {name: lambda name=name: build_discrepancy(name, DIM) for name in DISCREPANCIES} | {
    "mmd-u": lambda: MMD(HeatKernel(DIM), "u"),
    "ksd-u": lambda: KSD(HeatKernel(DIM), "u"),
    "kl-nats": lambda: KL(VonMisesFisherKernel(DIM), scale="nats"),
    "kl-full": lambda: KL(VonMisesFisherKernel(DIM), leave_one_out=False),
    "susreg-gaussian": lambda: SUSReg(DIM, target="gaussian"),
    "susreg-u": lambda: SUSReg(DIM, estimator="u"),
    "sigreg-u": lambda: SIGReg(DIM, estimator="u"),
    "kerjepa-mmd-u": lambda: GaussianMMD(DIM, estimator="u"),
    "kerjepa-ksd-u": lambda: GaussianKSD(DIM, kernel="gaussian", estimator="u"),
}
SCALED = [name for name in ALL if name.startswith(("mmd", "ksd", "kl")) and name != "kl-nats"]


@pytest.fixture(params=ALL)
def name(request):
    return request.param


@pytest.fixture
def discrepancy(name):
    return ALL[name]()


def points(*shape, dtype=torch.float32):
    return normalize(torch.randn(*shape, DIM, dtype=dtype) + 0.3)


def test_one_value_per_view(discrepancy):
    assert discrepancy(points(20)).shape == ()
    assert discrepancy(points(3, 20)).shape == (3,)
    z = points(2, 3, 20)
    values = discrepancy(z)
    assert values.shape == (2, 3)
    torch.testing.assert_close(values[1, 2], discrepancy(z[1, 2]))


def test_low_precision_is_raised_and_double_is_kept(discrepancy):
    z = points(20)
    assert discrepancy(z.bfloat16()).dtype == discrepancy(z.half()).dtype == torch.float32
    assert discrepancy(z.double()).dtype == torch.float64


def test_autocast_does_not_round_the_value_and_leaves_the_gradient_sound(discrepancy):
    """A backward pass inside the block is the caller's choice: PyTorch rounds plain products in it."""
    z = points(20).requires_grad_()
    outside = discrepancy(z)
    with torch.autocast("cpu", torch.bfloat16):
        inside = discrepancy(z)
        (gradient,) = torch.autograd.grad(inside, z)
    torch.testing.assert_close(inside, outside, rtol=0, atol=0)
    (exact,) = torch.autograd.grad(outside, z)
    assert (gradient - exact).norm() < 0.02 * exact.norm()


def test_pickle_and_state_dict(discrepancy):
    z = points(20)
    discrepancy.after_step()
    value = discrepancy(z)
    torch.testing.assert_close(pickle.loads(pickle.dumps(discrepancy))(z), value, rtol=0, atol=0)
    fresh = pickle.loads(pickle.dumps(discrepancy))
    fresh.load_state_dict(discrepancy.state_dict())
    torch.testing.assert_close(fresh(z), value, rtol=0, atol=0)


def test_order_of_the_rows_does_not_matter(discrepancy):
    z = points(20, dtype=torch.float64)
    torch.testing.assert_close(discrepancy(z[torch.randperm(20)]), discrepancy(z), rtol=1e-10, atol=1e-12)


def test_rotation(name, discrepancy):
    z = points(20, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(DIM, DIM, dtype=torch.float64)).Q
    # A sliced statistic is invariant in the mean over directions only.
    tolerance = 0.15 if "reg" in name else 1e-10
    torch.testing.assert_close(discrepancy(z @ rotation), discrepancy(z), rtol=tolerance, atol=1e-12)


@pytest.mark.parametrize("name", SCALED)
def test_collapse_is_one(name):
    row = normalize(torch.randn(1, DIM, dtype=torch.float64))
    assert ALL[name]()(row.expand(30, DIM)).item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", SCALED)
def test_range_is_from_uniform_to_collapse(name):
    generator = torch.Generator().manual_seed(5)
    uniform, pole = sample_uniform(300, DIM, generator=generator), torch.eye(DIM)[0]
    test = ALL[name]()
    null = test.null(300)
    for push in (0.0, 0.3, 1.0, 3.0, 30.0):
        value = test(normalize(uniform + push * pole)).item()
        assert null.mean - 6 * null.std < value < 1 + 1e-6
    if name != "kl-full":  # whose own term lifts it
        assert abs(null.mean) < 0.02  # near its value for a uniform population, 0


def test_gradient(name, discrepancy):
    if name == "visreg":  # whose shape stops the gradient at its own deviation: test_gaussian.py
        discrepancy = VISReg(DIM, shape=0.0)
    z = points(6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: discrepancy(normalize(x)), z, atol=1e-7)


def test_degenerate_samples_stay_finite(discrepancy):
    row = normalize(torch.randn(1, DIM))
    zero = torch.zeros(1, DIM)
    for z in (row.expand(5, -1), torch.cat([row, -row]), torch.cat([row, -row, zero, row])):
        z = z.clone().requires_grad_()
        value = discrepancy(z)
        value.backward()
        assert value.isfinite()
        assert z.grad is not None
        assert z.grad.isfinite().all()


def test_value_falls_from_collapse_to_uniform(discrepancy):
    generator = torch.Generator().manual_seed(1)
    uniform = sample_uniform(400, DIM, generator=generator)
    pole = torch.zeros(DIM)
    pole[0] = 1
    scale = DIM**0.5 if discrepancy.space == "euclidean" else 1.0
    values = [discrepancy(scale * normalize(uniform + k * pole)).item() for k in (100.0, 2.0, 0.5, 0.0)]
    assert values == sorted(values, reverse=True)


def test_null_moments_agree_with_simulation(discrepancy):
    n, draws = 40, 300
    null = discrepancy.null(n)
    generator = torch.Generator().manual_seed(7)
    values = torch.empty(draws, dtype=torch.float64)
    for i in range(draws):
        values[i] = discrepancy(discrepancy._sample_target(n, generator)).double()
        discrepancy.after_step()
    error = (values.var() / draws + null.error**2).sqrt().item()
    assert abs(values.mean().item() - null.mean) < 4 * error
    assert values.std().item() == pytest.approx(null.std, rel=0.25)
    assert abs(discrepancy.zscore(discrepancy._sample_target(n, generator)).item()) < 6


def test_slope_at_collapse(name, discrepancy):
    if discrepancy.slope(50) == float("inf"):
        assert name in ("koleo", "energy", "visreg")
        return
    # n rows of small variance around one point: mean over pairs of 1 - c is the variance, times 1 - 1/n without self.
    n, spread = 50, 1e-3
    half = torch.randn(n // 2, DIM, dtype=torch.float64)
    z = torch.cat([half, -half])  # a shift of the mean would be of first order in single directions
    pole = torch.zeros(DIM, dtype=torch.float64)
    if discrepancy.space == "sphere":
        pole[0] = 1
        z = normalize(pole + spread * z)
    else:
        z = spread * z
    c = z @ z.mT
    gap = (
        (c.diagonal()[:, None] + c.diagonal() - 2 * c).sum()
        / 2
        / (n * (n if discrepancy.self_pairs else n - 1))
    )
    falls = []
    for _ in range(20):  # over many directions, where there are any
        falls.append(discrepancy(pole.expand(n, DIM)) - discrepancy(z))
        discrepancy.after_step()
    measured = (sum(falls) / len(falls) / gap).item()
    assert measured == pytest.approx(discrepancy.slope(n), rel=0.05 if "reg" in name else 2e-3)


def test_wrong_shapes_are_refused_in_words(discrepancy):
    with pytest.raises(ValueError, match=r"expected \(\*views, n, 8\)"):
        discrepancy(torch.randn(5, 7))
    with pytest.raises(ValueError, match="expected at least 2 points"):
        discrepancy.null(1)


def test_docstring_says_formula_scale_and_source(discrepancy):
    text = type(discrepancy).__doc__
    assert ".. math::" in text
    for heading in ("Args:", "Scale", "Shape", "Raises", "Reference:", "Example:"):
        assert heading in text, heading


def test_one_row_is_told_how_to_be_a_sample(discrepancy):
    with pytest.raises(ValueError, match=r"one row is z\[None\]"):
        discrepancy(points(1)[0])
