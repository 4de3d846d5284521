"""Every discrepancy is a function like any other of PyTorch: what is fused equals its formula and composes."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad
from torch.utils.checkpoint import checkpoint

from isosphere.discrepancies import VISReg
from isosphere.sphere import normalize
from tests.discrepancies.test_contract import ALL, DIM, points

pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated:FutureWarning"
)  # torch.func's own


@pytest.fixture(params=ALL)
def discrepancy(request):
    return ALL[request.param]()


def gradient_of(function, z, **options):
    z = z.clone().requires_grad_()
    return torch.autograd.grad(function(z).sum(), z, **options)[0]


@pytest.mark.parametrize("n", [5, 12], ids=["pairs", "moments where they apply"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_fused_is_the_reference_in_value_and_gradient(discrepancy, n, dtype):
    z = points(2, n, dtype=dtype)
    # Off the sphere a formula by distances and one by cosines differ: gradients are compared along it.
    near, exact = (lambda z, f=f: f(normalize(z)) for f in (discrepancy, discrepancy.reference))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(near(z), exact(z), rtol=tolerance, atol=tolerance)
    expected = gradient_of(exact, z)
    torch.testing.assert_close(
        gradient_of(near, z), expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())
    )


def test_transforms_of_torch_func(discrepancy):
    z = points(3, 9, dtype=torch.float64)
    values, gradient = discrepancy(z), gradient_of(discrepancy, z)
    torch.testing.assert_close(torch.func.vmap(discrepancy)(z), values)
    torch.testing.assert_close(torch.func.vmap(discrepancy, in_dims=1)(z.transpose(0, 1)), values)
    one = torch.func.grad(discrepancy)
    torch.testing.assert_close(one(z[1]), gradient[1])
    torch.testing.assert_close(torch.func.vmap(one)(z), gradient)
    value, pull = torch.func.vjp(discrepancy, z)
    torch.testing.assert_close(pull(torch.ones_like(value))[0], gradient)


def test_forward_derivatives(discrepancy):
    z, v = points(2, 9, dtype=torch.float64), torch.randn(2, 9, DIM, dtype=torch.float64)
    expected = (gradient_of(discrepancy, z) * v).sum((-2, -1))
    value, tangent = torch.func.jvp(discrepancy, (z,), (v,))
    torch.testing.assert_close(value, discrepancy(z))
    torch.testing.assert_close(tangent, expected)
    with torch.autograd.forward_ad.dual_level():
        dual = discrepancy(torch.autograd.forward_ad.make_dual(z, v))
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(dual).tangent, expected)


@pytest.mark.parametrize("n", [5, 12], ids=["pairs", "moments where they apply"])
def test_second_derivatives(discrepancy, n):
    if isinstance(discrepancy, VISReg):  # whose shape stops the gradient at its own deviation
        discrepancy = VISReg(DIM, shape=0.0)
    z = points(n, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: discrepancy(normalize(x)), z, atol=1e-6, rtol=1e-4)


def test_second_derivatives_are_those_of_the_reference(discrepancy):
    z, v = points(6, dtype=torch.float64), torch.randn(6, DIM, dtype=torch.float64)
    near, exact = (lambda z, f=f: f(normalize(z)) for f in (discrepancy, discrepancy.reference))
    expected = gradient_of(lambda x: gradient_of_graph(exact, x) * v, z)
    torch.testing.assert_close(gradient_of(lambda x: gradient_of_graph(near, x) * v, z), expected)
    twice = torch.func.grad(lambda x: (torch.func.grad(near)(x) * v).sum())
    torch.testing.assert_close(twice(z), expected)
    _, forward = torch.func.jvp(torch.func.grad(near), (z,), (v,))
    torch.testing.assert_close(forward, expected)  # a Hessian is symmetric


def test_forward_and_backward_nest_in_any_order(discrepancy):
    z, (v, w) = points(5, dtype=torch.float64), torch.randn(2, 5, DIM, dtype=torch.float64)
    near, exact = (lambda z, f=f: f(normalize(z)) for f in (discrepancy, discrepancy.reference))
    second = ahead(grad(exact), v)(z)
    third = grad(lambda x: (ahead(grad(exact), v)(x) * w).sum())(z)
    torch.testing.assert_close(grad(ahead(near, v))(z), second)
    torch.testing.assert_close(ahead(ahead(near, v), w)(z), (second * w).sum())
    torch.testing.assert_close(grad(ahead(ahead(near, v), w))(z), third)
    torch.testing.assert_close(ahead(grad(ahead(near, v)), w)(z), third)
    torch.testing.assert_close(grad(lambda x: (ahead(grad(near), v)(x) * w).sum())(z), third)
    torch.testing.assert_close(torch.func.hessian(near)(z[:2]), torch.func.hessian(exact)(z[:2]))
    z.requires_grad_()
    with forward_ad.dual_level():
        along = forward_ad.unpack_dual(near(forward_ad.make_dual(z, v))).tangent
        (backward,) = torch.autograd.grad(along, z)
        torch.testing.assert_close(forward_ad.unpack_dual(backward).primal, second)
    once = gradient_of_graph(near, z)
    (twice,) = torch.autograd.grad((once * v).sum(), z, create_graph=True)
    torch.testing.assert_close(torch.autograd.grad((twice * w).sum(), z)[0], third)


def ahead(function, v):
    return lambda z: torch.func.jvp(function, (z,), (v,))[1]


def gradient_of_graph(function, z):
    return torch.autograd.grad(function(z).sum(), z, create_graph=True)[0]


def test_checkpointing_recomputes_the_same_bits(discrepancy):
    z = points(2, 9)
    again = gradient_of(lambda x: checkpoint(discrepancy, x, use_reentrant=False), z)
    assert torch.equal(again, gradient_of(discrepancy, z))
