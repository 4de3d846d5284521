"""Means and log-sums over pairs in blocks against the dense formula: values, first and second gradients."""

import operator
import sys

import pytest
import torch

from isosphere.discrepancies import MMD
from isosphere.kernels import HeatKernel
from isosphere.reductions import _pairwise as pairwise
from isosphere.reductions import full_precision, pair_log_sum, pair_mean
from isosphere.sphere import normalize


def square_exp(c, order=0):
    return torch.exp(c * c) * (2 * c if order else 1)


def dense(z, diagonal):
    c = z @ z.mT
    mask = torch.ones_like(c) if diagonal else 1 - torch.eye(c.shape[-1], dtype=c.dtype)
    return (square_exp(c) * mask).sum((-1, -2)) / mask.sum((-1, -2))


def dense_log(z, diagonal):
    logs = (z @ z.mT).pow(3)
    if not diagonal:
        logs = logs.masked_fill(torch.eye(logs.shape[-1], dtype=torch.bool), -torch.inf)
    return logs.logsumexp(-1).sum(-1)


@pytest.fixture(params=[1 << 19, 12], ids=["one block", "blocks of a row or two"])
def _block(request, monkeypatch):
    monkeypatch.setitem(pairwise._BLOCK, "cpu", request.param)


@pytest.mark.usefixtures("_block")
@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("views", [(), (3,), (2, 2)])
def test_values_and_gradients_equal_the_dense_formula(diagonal, views):
    z = normalize(torch.randn(*views, 7, 4, dtype=torch.float64)).requires_grad_()
    upstream = torch.rand(views, dtype=torch.float64)
    for blocked, plain in (
        (pair_mean(z, square_exp, diagonal=diagonal), dense(z, diagonal)),
        (pair_log_sum(z, lambda c: c.pow(3), diagonal=diagonal), dense_log(z, diagonal)),
    ):
        torch.testing.assert_close(blocked, plain, rtol=1e-13, atol=1e-12)
        mine, theirs = (torch.autograd.grad((v * upstream).sum(), z)[0] for v in (blocked, plain))
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("diagonal", [True, False])
def test_gradcheck(diagonal):
    z = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)

    def total(x):
        return pair_mean(x, square_exp, diagonal=diagonal)

    assert torch.autograd.gradcheck(total, z * 0.5)
    assert torch.autograd.gradgradcheck(total, z * 0.5)

    def logs(x):
        return pair_log_sum(x, lambda c: c.pow(3), diagonal=diagonal)

    assert torch.autograd.gradcheck(logs, z)
    assert torch.autograd.gradgradcheck(logs, z)


@pytest.mark.parametrize(
    "statistic", [lambda z: pair_mean(z, square_exp), lambda z: pair_log_sum(z, lambda c: 2 * c)]
)
def test_a_gradient_that_might_be_differentiated_costs_no_matrix(statistic):
    """create_graph alone keeps the gradient that was made; the dense formula is for those who go on."""
    z = normalize(torch.randn(50, 4)).requires_grad_()
    (expected,) = torch.autograd.grad(statistic(z), z)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        (gradient,) = torch.autograd.grad(statistic(z), z, create_graph=True)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0)
    assert max(kept) <= z.numel()


def test_float32_is_as_accurate_as_plain_pytorch():
    z = torch.nn.functional.normalize(torch.randn(600, 64, dtype=torch.float64), dim=-1)
    exact = dense(z, True)
    blocked = pair_mean(z.float(), square_exp).double()
    plain = dense(z.float(), True).double()
    assert abs(blocked - exact) <= abs(plain - exact) + 1e-7 * exact


def test_nothing_of_size_n_by_n_is_kept():
    z = torch.nn.functional.normalize(torch.randn(3000, 8), dim=-1).requires_grad_()
    kept = []

    def remember(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda t: t):
        pair_mean(z, square_exp)
        pair_log_sum(z, lambda c: c)
    assert max(kept) <= z.numel()


def test_the_users_matmul_precision_neither_enters_nor_is_lost():
    z = torch.randn(64, 64)
    exact = (z.double() @ z.double().T).float()
    torch.set_float32_matmul_precision("medium")
    try:
        with full_precision(z.device), torch.autocast("cpu", torch.bfloat16):
            pass
        with torch.autocast("cpu", torch.bfloat16), full_precision(z.device):
            product = z @ z.T
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    torch.testing.assert_close(product, exact, rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="settings of torch 2.9")
@pytest.mark.parametrize("place", ["cuda.matmul", "mkldnn.matmul"])
def test_the_newer_settings_of_precision_neither_enter_nor_are_lost(place):
    """With one of them set, torch's older setting can no longer be read."""
    z = torch.randn(64, 64)
    backend = operator.attrgetter(place)(torch.backends)
    before = backend.fp32_precision
    backend.fp32_precision = "tf32"
    try:
        with full_precision(z.device):
            assert backend.fp32_precision == "ieee"
            product = z @ z.T
        assert backend.fp32_precision == "tf32"
    finally:
        backend.fp32_precision = before
    torch.testing.assert_close(product, (z.double() @ z.double().T).float(), rtol=1e-5, atol=1e-4)


def test_a_triton_that_cannot_be_imported_costs_speed_alone(monkeypatch):
    """As where its libraries are another system's."""
    monkeypatch.setattr(pairwise, "find_spec", lambda name: object())
    monkeypatch.setattr(pairwise, "WITH_TILES", {"cpu"})
    monkeypatch.setitem(sys.modules, "isosphere.reductions._tiles", None)
    monkeypatch.delattr("isosphere.reductions._tiles", raising=False)
    pairwise._tiles_module.cache_clear()
    z = torch.nn.functional.normalize(torch.randn(20, 8), dim=1)
    loss = MMD(HeatKernel(8))
    with pytest.warns(UserWarning, match="Triton cannot be imported"):
        found = loss(z)
    torch.testing.assert_close(found, loss.reference(z).float())
    pairwise._tiles_module.cache_clear()
