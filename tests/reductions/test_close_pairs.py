"""Every pair of at least a cosine, found without looking at all: against all pairs."""

import pytest
import torch
from torch.nn import functional

from isosphere.reductions import _close_pairs as module
from isosphere.reductions import close_tiles


@pytest.fixture(autouse=True)
def _divided(monkeypatch):
    monkeypatch.setattr(module, "ALL_PAIRS", 0)


def spread(n: int, d: int) -> torch.Tensor:
    return functional.normalize(torch.randn(n, d), dim=1)


def clustered(n: int, d: int, spread_by: float = 0.3) -> torch.Tensor:
    centres = torch.randn(n // 20 + 1, d)
    return functional.normalize(
        centres[torch.arange(n) % len(centres)] + spread_by * torch.randn(n, d), dim=1
    )


SAMPLES = {
    "on a circle": lambda: spread(600, 2),
    "on a sphere": lambda: spread(600, 3),
    "in many dimensions": lambda: spread(500, 40),
    "in clusters": lambda: clustered(800, 16),
    "all nearly one": lambda: functional.normalize(
        torch.tensor([1.0, 2.0, 3.0]) + 0.01 * torch.randn(400, 3), dim=1
    ),
    "all one": lambda: torch.tensor([0.6, 0.8]).expand(300, 2).contiguous(),
    "opposite": lambda: torch.cat([x := spread(200, 5), -x]),
    "some zero": lambda: torch.cat([spread(200, 4), torch.zeros(20, 4)]),
    "one row": lambda: spread(1, 4),
    "two rows": lambda: spread(2, 4),
    "none": lambda: spread(0, 4),
}


@pytest.mark.parametrize("cosine", [0.2, 0.9, 0.99, 1.0, -0.5])
@pytest.mark.parametrize("kind", SAMPLES)
def test_no_pair_is_missed_and_none_comes_twice(kind, cosine):
    unit = SAMPLES[kind]()
    seen = torch.zeros(len(unit), len(unit), dtype=torch.int64)
    for rows, columns, cosines in close_tiles(unit, cosine, side=64):
        assert (cosines - unit[rows] @ unit[columns].T).abs().max() < 1e-5
        both = torch.zeros_like(seen)
        both[rows[:, None], columns] += 1
        if rows is not columns:
            both = both + both.T
        seen += both
    assert seen.max() <= 1 if len(unit) else True
    wanted = (unit @ unit.T) >= cosine
    assert bool(seen[wanted].all())


def test_most_pairs_are_spared():
    unit = clustered(4000, 32)
    looked = sum(cosines.numel() for _, _, cosines in close_tiles(unit, 0.95))
    assert looked < 0.1 * len(unit) ** 2 / 2


def test_the_same_tiles_each_time():
    unit = clustered(500, 8)
    first, second = ([(r.tolist(), c.tolist()) for r, c, _ in close_tiles(unit, 0.9)] for _ in range(2))
    assert first == second
    torch.manual_seed(5)
    state = torch.get_rng_state()
    list(close_tiles(unit, 0.9))
    assert torch.equal(state, torch.get_rng_state())
