"""Discrepancies, methods and views on the accelerator, against the CPU."""

import contextlib

import pytest
import torch
from torch import Tensor, nn

from isosphere.data import RECIPES, Pictures, Views, recipe
from isosphere.discrepancies import DISCREPANCIES, HypersphericalEnergy, build_discrepancy
from isosphere.methods import DISTILLATION, METHODS, Method, build_method
from isosphere.models import build_encoder
from isosphere.sphere import normalize
from isosphere.training import Differentiator, Step, StepTimer
from isosphere.training._config import OptimConfig
from isosphere.training._optimizer import build_optimizer
from tests.accelerator.place import D, counted, launched
from tests.training.test_gradient import assert_close, gradients

BATCH = 12


def sphere(*shape: int) -> Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(0)))


def built(name: str) -> Method:
    torch.manual_seed(0)
    dim = {} if "vje" in name else {"dim": 16}
    encoder = build_encoder("small-conv", image_size=16)
    method = build_method(name, encoder, global_views=2, hidden=32, **dim)
    return method.prepare(n=BATCH, views=2, batch=given(name)).train()


def given(name: str, seed: int = 0, small: int = 0, device: str = "cpu") -> list[Tensor]:
    """What a method is given of a batch: two views, some of them small, and targets where it learns from them."""
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(BATCH, 3, size, size, generator=generator) for size in [16] * 2 + [8] * small]
    if name == DISTILLATION:
        made.append(normalize(torch.randn(BATCH, 16, generator=generator))[..., None, None])
    return [x.to(device) for x in made]


def train(method: nn.Module, device: str, batches: list[list[Tensor]], dtype: torch.dtype | None = None):
    """Totals of a few steps."""
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01)
    totals = []
    for step, batch in enumerate(batches, start=1):
        with torch.autocast(device, dtype=dtype) if dtype else contextlib.nullcontext():
            loss = method([view.to(device) for view in batch])
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(step / len(batches))
        totals.append(loss.total.item())
    return totals


@pytest.mark.parametrize("name", DISCREPANCIES)
def test_a_discrepancy_is_that_of_the_cpu_and_waits_for_nothing(name, simulated):
    there, here = build_discrepancy(name, 16).to(D), build_discrepancy(name, 16)
    z = sphere(2, 40, 16)
    a, b = z.to(D).requires_grad_(), z.clone().requires_grad_()
    for step in range(3):
        with simulated.no_waiting() if step == 2 else contextlib.nullcontext():
            value = there(a)
            (slope,) = torch.autograd.grad(value.sum(), a)
            there.after_step()
        expected = here(b)
        (wanted,) = torch.autograd.grad(expected.sum(), b)
        here.after_step()
        torch.testing.assert_close(value.detach().cpu(), expected.detach(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(slope.cpu(), wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(there.zscore(a.detach()).cpu(), here.zscore(z), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_that_of_the_cpu_and_its_step_waits_for_nothing(name, simulated):
    there, here = built(name).to(D), built(name)
    there.describe(given(name, device=D))
    batches = [given(name, seed) for seed in range(2)]
    assert train(there, D, batches) == pytest.approx(train(here, "cpu", batches), rel=2e-3, abs=2e-3)
    batch = given(name, 2, device=D)
    with simulated.no_waiting():
        there(batch).total.backward()
        there.after_step(0.5)
    train(there.prepare(n=BATCH, views=4), D, [given(name, 9, small=2)], torch.bfloat16)
    there.eval()
    with torch.no_grad():
        assert {out.device.type for out in there.embed(batch[0])} == {D}


PIECES = [(name, pieces) for name in METHODS for pieces in (1, 3) if pieces == 1 or name != "byol-mhe"]


@pytest.mark.parametrize(("name", "pieces"), PIECES)
def test_the_gradient_of_a_step_is_that_of_the_cpu_and_waits_for_nothing(name, pieces, simulated):
    """As a training takes it, of the whole batch or of micro-batches."""

    def differentiated(device: str) -> tuple[Tensor, dict[str, Tensor]]:
        method, fabric, batch = built(name).to(device), launched(device=device), given(name, device=device)
        network = fabric.setup_module(Step(method))
        step = Differentiator(network, method, fabric, StepTimer(fabric.device), pieces=pieces)
        step(batch)
        method.zero_grad()
        with simulated.no_waiting() if device == D else contextlib.nullcontext():
            total, _ = step(batch)
        return total.cpu(), {key: gradient.cpu() for key, gradient in gradients(method).items()}

    (total, found), (value, expected) = differentiated(D), differentiated("cpu")
    torch.testing.assert_close(total, value, rtol=1e-4, atol=1e-5)
    assert_close(found, expected, 1e-3)


def test_pieces_of_a_batch_are_made_again_with_what_was_drawn_for_them(simulated):
    """By the generator of the device, which goes on as if each had been made once."""
    method, seen, views = built("mmd-heat"), [], given("mmd-heat", device=D)
    method.head = nn.Sequential(method.head, nn.Dropout(0.5))
    method.head.register_forward_hook(lambda module, given, made: seen.append(made.detach().cpu()))
    method, fabric = method.to(D), launched()
    network = fabric.setup_module(Step(method))
    step = Differentiator(network, method, fabric, StepTimer(fabric.device), pieces=3)
    torch.manual_seed(1)
    step(views)
    drawn = torch.rand(4, device=D)
    assert len(seen) == 6
    for first, again in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(first, again)
    assert not torch.equal(seen[0] == 0, seen[1] == 0)
    torch.manual_seed(1)
    for piece in zip(*(view.chunk(3) for view in views), strict=True):
        method.outputs(list(piece))
    assert torch.equal(torch.rand(4, device=D), drawn)


@pytest.mark.parametrize("name", RECIPES)
def test_views_are_those_of_the_cpu_and_wait_for_nothing(name, simulated):
    images, index = torch.randint(0, 256, (BATCH, 3, 48, 48), dtype=torch.uint8), torch.arange(BATCH)
    make = Views(recipe(name, 32))
    expected = make(images, index=index, epoch=1, seed=3)
    images = images.to(D)
    for place in (index, index.to(D)):
        make(images, index=place, epoch=0, seed=3)  # sends its constants
        with simulated.no_waiting():
            made = make(images, index=place, epoch=1, seed=3)
        for a, b in zip(made, expected, strict=True):
            torch.testing.assert_close(a.cpu(), b, rtol=0, atol=1e-3)


LAUNCHES = {
    **{"crops": 58, "lejepa": 470, "dino": 420, "byol": 112, "simsiam": 104, "distillation": 34},
    **{"textures": 72, "textures-paper": 114},
}
"""Of all views of a batch: counted, and a little room."""


@counted
@pytest.mark.parametrize("name", METHODS)
def test_a_loss_is_few_launches(name, simulated):
    method = built(name).to(D)
    outputs = [x.detach().requires_grad_() for x in method.outputs(given(name, device=D))]
    method.loss(*outputs).total.backward()
    with simulated.record() as seen:
        method.loss(*outputs).total.backward()
        before = seen.launches
        method.after_step(0.5)
    assert seen.launches - before <= 3  # of a teacher's parameters too: they are few here, and a loop shows
    assert before + LAUNCHES["crops"] < 200


ROWS = 3 * 8
"""Bytes that an operator reads and writes of float64 for each row, at most: GPUs that are not for data centres are slow
in it.
"""


@counted
@pytest.mark.parametrize("name", METHODS)
def test_a_step_has_no_more_than_rows_in_float64(name, simulated):
    method = built(name).to(D)
    method.describe(given(name, device=D))
    with simulated.record(doubles=True) as seen:
        method(given(name, 2, device=D)).total.backward()
        method.after_step(0.5)
    assert [event for event in seen.doubles if event.bytes > ROWS * 2 * BATCH] == []


@counted
@pytest.mark.parametrize("name", DISCREPANCIES)
def test_a_discrepancy_has_no_more_than_rows_in_float64(name, simulated):
    discrepancy, z = build_discrepancy(name, 16).to(D), sphere(2, 40, 16).to(D).requires_grad_()
    discrepancy(z).sum().backward()
    discrepancy.after_step()
    with simulated.record(doubles=True) as seen:
        discrepancy(z).sum().backward()
        discrepancy.after_step()
    assert [event for event in seen.doubles if event.bytes > ROWS * 2 * 40] == []


@pytest.mark.parametrize("power", [0, 1, 2])
def test_copies_are_a_thousandth_apart_and_do_not_repel_in_float32(power, simulated):
    """There a cosine of 1 is known to a rounding, which would be taken for a distance."""
    energy, z = HypersphericalEnergy(power), sphere(40, 16)
    z[1], z[3] = z[0], normalize(z[2] + 1e-4 * z[4])
    there, here = z.to(D).requires_grad_(), z.double().requires_grad_()
    energy(there).backward()
    energy(here).backward()
    distances = torch.pdist(z.double()).clamp(min=1e-3)
    potential = distances**-power if power else -distances.log()
    assert energy(there).item() == pytest.approx(potential.mean().item(), rel=1e-4)
    near = torch.tensor([2, 3])  # which in float64 are apart, and repel
    torch.testing.assert_close(
        there.grad.cpu().index_fill(0, near, 0).double(),
        here.grad.index_fill(0, near, 0),
        rtol=1e-3,
        atol=1e-5,
    )
    assert there.grad[near.to(D)].norm() < 1


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(("name", "launches"), [("adamw", 15), ("sgd", 7), ("lars", 23)])
def test_an_optimiser_goes_over_all_parameters_at_once_and_waits_for_nothing(
    name, launches, scaled, simulated
):
    method = built("byol").to(D)
    optimizer = build_optimizer(method, OptimConfig(name=name, weight_decay=0.01), scaled=scaled)
    method(given("byol", device=D)).total.backward()
    optimizer.step()
    with simulated.record() as seen, simulated.no_waiting():
        optimizer.step()
        optimizer.zero_grad()
    assert seen.launches <= launches


@counted
@pytest.mark.parametrize("name", RECIPES)
def test_views_are_few_launches(name, simulated):
    images, make = torch.zeros(BATCH, 3, 48, 48, dtype=torch.uint8, device=D), Views(recipe(name, 32))
    make(images, index=torch.arange(BATCH), epoch=0, seed=0)
    with simulated.record() as seen:
        make(images, index=torch.arange(BATCH), epoch=0, seed=0)
    assert seen.launches <= LAUNCHES[name]


def test_views_of_pictures_of_several_shapes_wait_for_nothing(simulated):
    pictures = Pictures([torch.randint(0, 256, (3, 40 + k, 52), dtype=torch.uint8) for k in range(BATCH)])
    make, index = Views(recipe("byol", 32)), torch.arange(BATCH)
    expected = make(pictures, index=index, epoch=1, seed=3)
    there = pictures.to(D)
    make(there, index=index, epoch=0, seed=3)
    with simulated.no_waiting():
        made = make(there, index=index, epoch=1, seed=3)
    for a, b in zip(made, expected, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=0, atol=1e-3)
