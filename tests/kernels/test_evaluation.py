"""How values are computed: chunks, compilers, default devices, and what is kept for the backward pass."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from isosphere.kernels import (
    FejerKernel,
    HeatKernel,
    InducedKernel,
    JacksonKernel,
    VonMisesFisherKernel,
    ZonalKernel,
    stein,
)
from isosphere.kernels import _approximate as approximate
from isosphere.kernels._approximate import constant_when_compiled, fold, shortest_sum
from isosphere.kernels._zonal import _centred, _logarithm, _value
from isosphere.sphere import gegenbauer, marginal_quadrature

KERNELS: list[ZonalKernel] = [
    HeatKernel(256),  # folded in float32
    HeatKernel(256, time=2 / 256),  # Chebyshev
    HeatKernel(3, time=0.05),  # stretched logarithm
    VonMisesFisherKernel(64),
    stein(InducedKernel(8)),
    JacksonKernel(64, 4),
]
every_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=repr)


@every_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_and_strided_inputs_give_what_small_ones_give(kernel, dtype, monkeypatch):
    c = torch.rand(70, 130, dtype=dtype) * 2 - 1
    whole = kernel(c)
    monkeypatch.setattr(approximate, "_CHUNK", 1000)
    monkeypatch.setattr(approximate, "_LARGE_CHUNK", 1000)
    assert torch.equal(kernel(c), whole)
    assert torch.equal(kernel(c.mT), whole.mT)
    assert torch.equal(kernel(c[::2, 3:9]), whole[::2, 3:9])
    assert torch.equal(kernel(c.expand(2, 70, 130))[1], whole)
    if kernel.is_positive:
        assert torch.equal(kernel.log(c.mT), kernel.log(c).mT)


@every_kernel
def test_input_is_left_alone(kernel):
    c = torch.rand(50) * 2 - 1
    before = c.clone()
    kernel(c)
    kernel.derivative(c, 2)
    if kernel.is_positive:
        kernel.log(c)
    assert torch.equal(c, before)


@pytest.mark.parametrize(
    "kernel", [HeatKernel(256), HeatKernel(256, time=2 / 256), InducedKernel(64)], ids=repr
)
def test_only_the_cosines_are_kept_for_the_backward_pass(kernel):
    kept = []
    c = torch.zeros(10, 10, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.shape), t)[1], lambda t: t):
        kernel(c)
        kernel.log(c)
    assert kept == [c.shape, c.shape]


@every_kernel
def test_default_device_and_inference_mode_do_not_reach_the_coefficients(kernel):
    """A kernel first used under a default device or in inference mode is not spoilt by it."""
    fresh = {
        HeatKernel: lambda: HeatKernel(31, time=0.07),
        VonMisesFisherKernel: lambda: VonMisesFisherKernel(31, 3.0),
        JacksonKernel: lambda: JacksonKernel(31, 4),
    }.get(type(kernel), lambda: stein(InducedKernel(31, knots=[1.0], weights=[1.0])))()
    c = torch.linspace(-1, 1, 7)
    with torch.device("meta"), torch.inference_mode():
        inside = fresh(c)
        fresh.weights()
        assert fresh.mean >= 0
    assert inside.device.type == "cpu"
    c = torch.linspace(-1, 1, 7, requires_grad=True)
    outside = fresh(c)
    outside.sum().backward()
    assert torch.equal(outside.detach(), inside)
    assert fresh.weights().requires_grad_().sum().item() == pytest.approx(1)


@every_kernel
def test_autocast_does_not_round(kernel):
    c = torch.rand(100) * 2 - 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = kernel(c)
    assert value.dtype == torch.float32
    assert torch.equal(value, kernel(c))


@pytest.mark.parametrize("kernel", [HeatKernel(256), JacksonKernel(64)], ids=repr)
def test_compiles_into_one_graph(kernel):
    class Step(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            c = z @ z.mT
            total = (kernel(c) - kernel.mean).mean() + kernel.derivative(c).mean()
            return total + (kernel.log(c).mean() - kernel.log_mean if kernel.is_positive else 0.0)

    z = torch.nn.functional.normalize(torch.randn(12, kernel.dim), dim=-1).requires_grad_()
    (expected,) = torch.autograd.grad(Step()(z), z)
    torch.compiler.reset()
    compiled = torch.compile(Step(), backend="aot_eager", fullgraph=True)
    (gradient,) = torch.autograd.grad(compiled(z), z)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_mark_for_the_compiler_is_torchs_own():
    def ours():
        return 1

    def theirs():
        return 1

    assert constant_when_compiled(ours).__dict__ == torch.compiler.assume_constant_result(theirs).__dict__


def test_import_loads_neither_the_compiler_nor_anything_optional():
    code = "import isosphere.kernels, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    loaded = set(done.stdout.split())
    assert "isosphere.kernels._heat" in loaded
    assert not loaded & {"torch._dynamo", "sympy", "mpmath", "scipy", "timm", "lightning", "pandas"}


@every_kernel
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
def test_function_transforms(kernel):
    """torch.func: a Hessian by vmap over the backward pass of the backward pass."""
    c = torch.tensor([-0.3, 0.2, 0.8], dtype=torch.float64)
    hessian = torch.func.jacrev(torch.func.grad(lambda v: kernel(v).sum()))(c)
    torch.testing.assert_close(hessian, torch.diag(kernel.derivative(c, 2)), rtol=1e-12, atol=1e-12)
    batched = torch.func.vmap(kernel, in_dims=1, out_dims=1)(c.reshape(1, 3).expand(2, 3))
    torch.testing.assert_close(batched, kernel(c).expand(2, 3), rtol=0, atol=0)
    _, tangent = torch.func.jvp(kernel, (c,), (torch.ones_like(c),))
    torch.testing.assert_close(tangent, kernel.derivative(c), rtol=1e-12, atol=1e-12)
    forward = torch.func.jacfwd(torch.func.jacfwd(kernel))(c[0])
    torch.testing.assert_close(forward, kernel.derivative(c[0], 2), rtol=1e-12, atol=1e-12)
    with torch.no_grad(), torch.autograd.forward_ad.dual_level():
        dual = kernel(torch.autograd.forward_ad.make_dual(c, torch.ones_like(c)))
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(dual).tangent, tangent)
    if kernel.is_positive:
        slopes = torch.func.vmap(torch.func.grad(kernel.log))(c)
        c.requires_grad_()
        (expected,) = torch.autograd.grad(kernel.log(c).sum(), c)
        torch.testing.assert_close(slopes, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("dim", [2, 3, 64, 256, 2048])
@pytest.mark.parametrize("family", [HeatKernel, InducedKernel])
def test_folding_keeps_the_mean_and_the_first_degrees(family, dim):
    """The mean of the polynomial under the uniform law is p_0 to float64, though its values differ by 1e-8."""
    kernel = family(dim)
    how = shortest_sum(_value, kernel, 0, True)
    if not how.monomial:
        pytest.skip("no polynomial is accurate in float32 here")
    coefficients = how.coefficients
    t, w = marginal_quadrature(dim, 64)
    value = torch.from_numpy(np.polynomial.polynomial.polyval(t.numpy(), np.array(coefficients)))
    assert float(w @ value) == pytest.approx(kernel.mean, rel=1e-13)
    centred = np.polynomial.polynomial.polyval(
        t.numpy(), shortest_sum(_centred, kernel, 0, True).coefficients
    )
    assert float(w @ torch.from_numpy(centred)) == pytest.approx(0, abs=1e-14)
    first = float(w @ (value * t)) * dim
    assert first == pytest.approx(float(kernel.weights()[1]), rel=1e-12)
    c = torch.linspace(-1, 1, 1001, dtype=torch.float64)
    exact = gegenbauer(c, kernel.max_degree, dim) @ kernel.weights()
    value = np.polynomial.polynomial.polyval(c.numpy(), np.array(coefficients))
    assert float(np.abs(value - exact.numpy()).max()) <= 1.1e-8


def test_papers_default_folds_into_a_short_polynomial():
    for dim in (128, 256, 512):
        for profile_of, order, terms in (
            (_value, 0, 12),
            (_centred, 0, 12),
            (_centred, 1, 12),
            (_logarithm, 0, 9),
        ):
            how = shortest_sum(profile_of, HeatKernel(dim), order, True)
            assert how.monomial
            assert len(how.coefficients) <= terms


def test_folding_refuses_what_float32_would_lose():
    k = np.arange(22)
    wild = np.where(k == 21, 1.0, 0.0)  # T_21: monomials of 1e7 that cancel
    assert fold(wild, None, 3) is None
    assert not shortest_sum(_value, HeatKernel(256, time=2 / 256), 0, True).monomial
    line = fold(np.array([0.5, 0.25]), None, 3)
    assert line == (0.5, 0.25)


def test_float32_is_as_accurate_as_float32_can_be():
    """Against the float64 value at the same float32 cosine: two units in the last place of 1, near uniformity less."""
    c = torch.randn(100_000).mul_(1 / 16).clamp_(-1, 1)
    for kernel in (HeatKernel(256), InducedKernel(256)):
        error = (kernel(c).double() - kernel(c.double())).abs()
        assert float(error.max()) < 6e-8
        assert abs(float((kernel(c).double() - kernel(c.double())).mean())) < 1e-8


def test_logarithm_is_accurate_relative_to_itself_near_coincidence():
    kernel = HeatKernel(512, time=2 / 512)
    c = torch.tensor([1 - 1e-12], dtype=torch.float64)
    expected = float(kernel.derivative(torch.ones(1, dtype=torch.float64))) * float(c - 1)
    assert float(kernel.log(c)) == pytest.approx(expected, rel=1e-9)


def test_a_peaked_fejer_kernel_still_sees_its_floor():
    kernel = FejerKernel(256, 8)
    t, w = marginal_quadrature(256, 40)
    log_density = kernel.log(t) - kernel.log_mean
    assert float(log_density.min()) >= math.log(0.01) - 1e-12
    assert float(w @ torch.exp(log_density)) == pytest.approx(1, abs=1e-12)
