"""The device itself: what it refuses, what it notes, and that torch takes it for a device like any other."""

import io

import pytest
import torch
from torch import nn

from tests.accelerator.place import D, counted

pytestmark = counted


def rows():
    return torch.arange(32.0, device=D).view(8, 4)


REFUSED = {
    "add": lambda: rows() + torch.ones(4),
    "matmul": lambda: rows() @ torch.ones(4, 2),
    "where": lambda: torch.where(rows() > 0, rows(), torch.zeros(8, 4)),
    "cat": lambda: torch.cat([rows(), torch.ones(1, 4)]),
    "gather": lambda: rows().gather(0, torch.zeros(1, 4, dtype=torch.long)),
    "index_select by an index of the CPU": lambda: rows().index_select(0, torch.tensor([0])),
    "a tensor of the CPU indexed by the device": lambda: torch.ones(8)[rows()[:, 0].long().clamp(max=7)],
    "convolution": lambda: nn.functional.conv2d(torch.ones(1, 3, 8, 8, device=D), torch.ones(4, 3, 3, 3)),
}

ALLOWED = {
    "a number of the CPU": lambda: rows() + torch.tensor(2.0),
    "an index of the CPU": lambda: rows()[torch.tensor([1, 2])],
    "a mask of the CPU": lambda: rows()[torch.ones(8, dtype=torch.bool)],
    "a copy": lambda: rows().clone().copy_(torch.ones(8, 4)),
}

WAITS = {
    "item": (lambda: rows().sum().item(), 1),
    "bool": (lambda: bool((rows() > 0).all()), 1),
    "a mask as index": (lambda: rows()[rows() > 3], 1),
    "nonzero": (lambda: rows().nonzero(), 1),
    "to the CPU": (lambda: rows().cpu(), 1),
    "a list made a tensor": (lambda: torch.tensor([1, 2], device=D), 1),
    "a list as index": (lambda: rows()[[0, 2]], 1),
    "equal": (lambda: torch.equal(rows(), rows()), 1),
    "errors of eigh": (lambda: torch.linalg.eigh(rows().T @ rows()), 1),
    "errors of cholesky": (lambda: torch.linalg.cholesky(torch.eye(3, device=D)), 1),
    "pinned and non_blocking": (lambda: torch.ones(3).pin_memory().to(D, non_blocking=True), 0),
    "work on the device": (lambda: (rows() @ rows().T).softmax(1).sum(), 0),
    "a slice": (lambda: rows()[2:5, ::2], 0),
    "synchronize": (lambda: torch.simulated.synchronize(), 1),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_refuses_as_cuda_does(call):
    with pytest.raises(RuntimeError, match="same device"):
        call()


@pytest.mark.parametrize("call", ALLOWED.values(), ids=ALLOWED)
def test_allows_what_cuda_allows(call):
    assert call().device.type == D


@pytest.mark.parametrize(("call", "waits"), WAITS.values(), ids=WAITS)
def test_notes_each_wait(call, waits, simulated):
    with simulated.record() as seen:
        call()
    assert len(seen.waits) == waits
    assert all("test_device.py" in event.where[0] for event in seen.waits)


def test_a_wait_can_be_an_error(simulated):
    with simulated.no_waiting(), pytest.raises(simulated.Waiting, match="item"):
        rows().sum().item()


def test_counts_launches_and_bytes(simulated):
    a, b = torch.ones(100, device=D), torch.ones(100, device=D)
    with simulated.record() as seen:
        torch.add(a, b)
        a.view(10, 10).t()  # a view launches nothing
    assert seen.operators == {"aten::add": (1, 1200)}


def test_fresh_memory_is_not_zero():
    assert torch.empty(3, device=D).isnan().all()


def test_memory_peak(simulated):
    simulated.reset_peak()
    before = simulated.memory_peak()
    torch.ones(1000, device=D)
    assert 4000 <= simulated.memory_peak() - before < 4200


def test_without_float64(simulated):
    with simulated.without_float64(), pytest.raises(TypeError, match="float64"):
        rows().double()
    with simulated.record(doubles=True) as seen:
        rows().double() + 1
    assert len(seen.doubles) == 2


def test_generators_are_the_devices_own():
    torch.manual_seed(0)
    a, c = torch.randn(3, device=D), torch.randn(3)
    torch.manual_seed(0)
    assert torch.equal(torch.randn(3, device=D), a)
    assert torch.equal(torch.randn(3), c)


@pytest.mark.parametrize("fused", [False, True])
def test_trains_under_autocast(fused):
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)
    ).to(D)
    optimizer = torch.optim.AdamW(net.parameters(), fused=fused)
    scaler = torch.amp.GradScaler(D)
    losses = []
    for _ in range(5):
        with torch.autocast(D, dtype=torch.bfloat16):
            out = net(torch.ones(4, 3, 8, 8, device=D).contiguous(memory_format=torch.channels_last))
        assert out.dtype == torch.bfloat16
        loss = nn.functional.cross_entropy(out.float(), torch.zeros(4, dtype=torch.long, device=D))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_fused_optimizer_refuses_steps_on_the_cpu():
    weight = nn.Parameter(torch.ones(3, device=D))
    optimizer = torch.optim.AdamW([weight], fused=True)
    weight.grad = torch.ones(3, device=D)
    optimizer.step()
    optimizer.state[weight]["step"] = optimizer.state[weight]["step"].cpu()
    with pytest.raises(RuntimeError, match="state_steps"):
        optimizer.step()


def test_saves_and_loads():
    file = io.BytesIO()
    torch.save({"x": rows()}, file)
    file.seek(0)
    assert torch.load(file, weights_only=True)["x"].device.type == D
    file.seek(0)
    assert torch.equal(torch.load(file, map_location="cpu", weights_only=True)["x"], rows().cpu())
