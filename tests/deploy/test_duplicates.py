"""Groups of near-duplicates against a search over all pairs and chains."""

import numpy as np
import pytest
import torch

from isosphere.deploy import _duplicates as duplicates
from isosphere.deploy import near_duplicates, nearest_pair


def brute(z, threshold):
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    linked = unit @ unit.T >= threshold
    left, groups = set(range(len(z))), []
    while left:
        group, edge = set(), {min(left)}
        while edge:
            group |= edge
            edge = {j for i in edge for j in np.flatnonzero(linked[i])} - group
        left -= group
        if len(group) > 1:
            groups.append(tuple(sorted(group)))
    return sorted(groups, key=lambda g: (-len(g), g[0]))


def test_the_nearest_pair_is_that_of_all_cosines(monkeypatch):
    monkeypatch.setattr(duplicates, "_SIDE", 7)
    unit = torch.nn.functional.normalize(
        torch.randn(30, 6, generator=torch.Generator().manual_seed(0)), dim=1
    )
    cosines = (unit @ unit.T).fill_diagonal_(-1)
    pair = nearest_pair(unit, [str(i) for i in range(30)])
    assert pair.rows == tuple(sorted(divmod(int(cosines.argmax()), 30)))
    assert pair.paths == tuple(map(str, pair.rows))
    assert pair.similarities[0] == pytest.approx(float(cosines.max()), abs=1e-6)
    assert nearest_pair(unit[:1]) is None


@pytest.mark.parametrize("threshold", [0.2, 0.6, 0.8, 0.9, 0.99])
@pytest.mark.parametrize("side", [2048, 26])
def test_groups_are_connected_components(threshold, side, monkeypatch):
    monkeypatch.setattr(duplicates, "_SIDE", side)
    rng = np.random.default_rng(1)
    z = rng.normal(size=(40, 5))[rng.integers(0, 40, 150)] + 0.15 * rng.normal(size=(150, 5))
    found = near_duplicates(z, threshold)
    assert [group.rows for group in found] == brute(z, threshold)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    for group in found[:20]:
        cosines = unit[list(group.rows)] @ unit[list(group.rows)].T
        np.fill_diagonal(cosines, -1)
        assert np.allclose(group.similarities, cosines.max(1), atol=1e-6)


def test_a_chain_is_one_group():
    angles = torch.arange(6) * 0.1
    z = torch.stack([angles.cos(), angles.sin()], 1)
    (group,) = near_duplicates(z, 0.994)
    assert group.rows == (0, 1, 2, 3, 4, 5)
    assert near_duplicates(z, 0.996) == []


def test_identical_rows_pass_a_threshold_of_one():
    z = torch.randn(5, 64)
    z[3] = 7 * z[1]
    (group,) = near_duplicates(z, 1.0)
    assert group.rows == (1, 3)
    assert max(group.similarities) <= 1


def test_collapse_is_one_group_quickly():
    (group,) = near_duplicates(torch.ones(3000, 4), 0.99)
    assert len(group) == 3000


def test_zero_rows_are_like_nothing():
    assert near_duplicates(torch.zeros(4, 3), 0.5) == []


def test_nothing_and_one():
    assert near_duplicates(torch.zeros(0, 3), 0.5) == []
    assert near_duplicates(torch.ones(1, 3), 0.5) == []


@pytest.mark.parametrize(
    ("z", "threshold", "words"),
    [
        (torch.ones(3), 0.9, "shape"),
        (torch.ones(3, 2), 1.5, "threshold"),
        (torch.full((3, 2), float("nan")), 0.9, "non-finite"),
    ],
)
def test_wrong_arguments(z, threshold, words):
    with pytest.raises(ValueError, match=words):
        near_duplicates(z, threshold)
