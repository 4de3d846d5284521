"""Projection noise: the rate at which slices approach the exact statistic, and its place beside the batch's noise."""

import pytest
import torch

from isosphere.discrepancies import MMD, SIGReg, SUSReg
from isosphere.sphere import normalize

DIM, N = 16, 24


def value_and_gradient(test, z):
    """Value, and gradient along the sphere: off it the two statistics differ."""
    z = z.clone().requires_grad_()
    value = test(normalize(z))
    (gradient,) = torch.autograd.grad(value, z)
    return value.detach(), gradient


def exact(test, z):
    """The mean over all directions, by the theorem."""
    kernel = test.kernel()
    value, gradient = value_and_gradient(MMD(kernel), z)
    scale = z.shape[0] * test._rule.sum() * (1 - kernel.mean)
    return scale * value, scale * gradient


def noise(slices, z, draws):
    """Mean squared distance of the sliced value and gradient from the exact ones."""
    test = SUSReg(DIM, num_slices=slices)
    value, gradient = exact(test, z)
    squares = torch.zeros(2, dtype=torch.float64)
    for _ in range(draws):
        v, g = value_and_gradient(test, z)
        squares += torch.stack([(v - value).square(), (g - gradient).square().sum()]) / draws
        test.after_step()
    return squares


def test_directions_are_not_the_stream_of_a_seed_that_people_type():
    """From manual_seed(0) come data and networks: directions along them would see too much."""
    typed = {seed: torch.randn(64, DIM, generator=torch.Generator().manual_seed(seed)) for seed in range(8)}
    for seed in range(3):
        test = SUSReg(DIM, num_slices=64, seed=seed)
        for _ in range(4):
            directions = test.directions(torch.zeros(1, DIM))
            for stream in typed.values():
                assert (directions * normalize(stream)).sum(-1).abs().max() < 0.95
            test.after_step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("family", [SUSReg, SIGReg])
@pytest.mark.parametrize(
    "first",
    [
        lambda test, z: torch.func.vmap(test)(z),
        lambda test, z: torch.func.hessian(test)(z[0]),
        lambda test, z: torch.func.jvp(torch.func.grad(test), (z[0],), (z[1],)),
        lambda test, z: torch.func.vmap(test.reference)(z),
        lambda test, z: torch.func.jvp(test.zscore, (z[0],), (z[1],)),
        lambda test, z: torch.inference_mode()(test)(z),
    ],
    ids=["vmap", "hessian", "jvp of grad", "reference", "zscore", "inference"],
)
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own
def test_directions_are_drawn_outside_of_any_transform(first, family, dtype):
    test, same = family(DIM, num_slices=8), family(DIM, num_slices=8)
    z = normalize(torch.randn(2, 3, DIM, dtype=dtype))
    for _ in range(2):
        first(test, z)
        assert torch.equal(test(z), same(z))
        once = torch.func.grad(lambda x: torch.func.jvp(torch.func.grad(test), (x,), (z[1],))[1].sum())
        assert once(z[0]).isfinite().all()
        test.after_step()
        same.after_step()


@pytest.mark.parametrize("offset", [3.0, 0.5, 0.0])
def test_variance_over_directions_falls_as_one_over_their_number(offset):
    z = normalize(torch.randn(N, DIM, dtype=torch.float64) + offset)
    few, many = noise(8, z, 400), noise(128, z, 400)
    # 400 draws know a variance to some 10 % (heavier tails: 20 %), and the ratio is 16 by independence.
    torch.testing.assert_close(few / many, torch.full_like(few, 16), rtol=0.4, atol=0)


def test_variance_is_that_of_the_slices_plus_that_of_the_batch():
    """The law of total variance, with the batch's part taken from the exact statistic."""
    samples = normalize(torch.randn(600, N, DIM, dtype=torch.float64) + 0.3)
    test = SUSReg(DIM, num_slices=8)
    totals, exacts, slices = [], [], 0.0
    for z in samples:
        value, _ = exact(test, z)
        first = test(z)
        test.after_step()
        totals.append(test(z))  # its own directions: one independent draw of batch and slices
        test.after_step()
        exacts.append(value)
        slices += (first - value).square().item() / len(samples)
    batch = torch.stack(exacts).var().item()
    total = torch.stack(totals).var().item()
    assert total == pytest.approx(batch + slices, rel=0.25)
    assert slices > batch  # with eight directions the noise is the directions'
