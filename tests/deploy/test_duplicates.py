"""Groups of near-duplicates against a search over all pairs and chains."""

import numpy as np
import pytest
import torch

from isosphere.deploy import _duplicates as duplicates
from isosphere.deploy import near_duplicates, nearest_pair


@pytest.fixture(autouse=True, params=["all pairs", "close pairs"])
def _pairs(request, monkeypatch):
    """Every test with both ways to look for pairs."""
    if request.param == "close pairs":
        monkeypatch.setattr("isosphere.reductions._close_pairs.ALL_PAIRS", 0)
        monkeypatch.setattr(duplicates, "ALL_PAIRS", 0)


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


@pytest.mark.parametrize("side", [2048, 7])
@pytest.mark.parametrize("threshold", [-0.5, 0.2, 0.9, 1.0])
def test_pairs_near_a_threshold_are_the_nearest_of_each_side(side, threshold, monkeypatch):
    monkeypatch.setattr(duplicates, "_SIDE", side)
    unit = torch.nn.functional.normalize(
        torch.randn(30, 4, generator=torch.Generator().manual_seed(3)), dim=1
    )
    of = torch.arange(30) % 3
    for sets in (None, of):
        pairs = [(i, j) for i in range(30) for j in range(i + 1, 30) if sets is None or sets[i] != sets[j]]
        cosine = {(i, j): float(unit[i] @ unit[j]) for i, j in pairs}
        above = sorted((p for p in pairs if cosine[p] >= threshold), key=cosine.__getitem__)
        below = sorted((p for p in pairs if cosine[p] < threshold), key=lambda p: -cosine[p])
        taken = max(5, 10 - len(below)) if len(above) >= 5 else len(above)
        expected = sorted(above[:taken] + below[: 10 - min(taken, len(above))], key=lambda p: -cosine[p])
        found = duplicates.pairs_near(unit, threshold, 10, [str(i) for i in range(30)], sets=sets)
        assert [pair.rows for pair in found] == expected
        assert [pair.similarity for pair in found] == pytest.approx([cosine[p] for p in expected], abs=1e-6)
        assert all(pair.paths == tuple(map(str, pair.rows)) for pair in found)
    assert len(duplicates.pairs_near(unit[:3], threshold, 10)) == 3
    assert duplicates.pairs_near(unit[:1], threshold, 10) == []


@pytest.mark.parametrize("side", [2048, 26])
def test_groups_between_sets_have_links_between_sets_alone(side, monkeypatch):
    monkeypatch.setattr(duplicates, "_SIDE", side)
    rng = np.random.default_rng(1)
    z = rng.normal(size=(40, 5))[rng.integers(0, 40, 150)] + 0.1 * rng.normal(size=(150, 5))
    sets = rng.integers(0, 2, 150)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    cosines = np.where(sets[:, None] == sets, -1, unit @ unit.T)
    found = near_duplicates(z, 0.97, sets=sets)
    assert found
    for group in found:
        rows = list(group.rows)
        assert len(set(sets[rows])) == 2
        np.testing.assert_allclose(group.similarities, cosines[rows].max(1), atol=1e-6)
        assert min(group.similarities) >= 0.97 - 1e-6
    linked = set(np.flatnonzero((cosines >= 0.97).any(1)).tolist())
    assert {row for group in found for row in group.rows} == linked
    assert len(found) < len(near_duplicates(z, 0.97)) or linked != {
        row for group in near_duplicates(z, 0.97) for row in group.rows
    }
    with pytest.raises(ValueError, match="sets"):
        near_duplicates(z, 0.97, sets=sets[:3])
