"""Outliers, typical rows and diverse subsets against all distances, and against bounds that hold by theory."""

import itertools

import pytest
import torch
from torch.nn import functional

from isosphere.statistics import clusters, farthest_first, neighbour_distances, typical_rows, typicality


def rows(n, d=6, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def distances(z):
    unit = functional.normalize(z.double(), dim=1)
    return torch.cdist(unit, unit)


def test_neighbour_distances_are_those_of_all_pairs():
    z = rows(60)
    expected = distances(z).sort(1).values[:, 1:6].float()
    torch.testing.assert_close(neighbour_distances(z, 5), expected, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(typicality(z, 5), 1 / expected.mean(1), atol=2e-3, rtol=1e-3)
    assert typicality(z[:1]).tolist() == [1]
    with pytest.raises(ValueError, match="1 to 59"):
        neighbour_distances(z, 60)


def test_a_planted_outlier_is_the_farthest_and_a_copy_hides_it_from_the_first_neighbour_alone():
    cloud = torch.tensor([4.0, 0, 0, 0, 0, 0]) + 0.3 * rows(100)
    z = torch.cat([cloud, -cloud[:1], -cloud[:1]])
    assert set(neighbour_distances(z, 3)[:, -1].topk(2).indices.tolist()) == {100, 101}
    assert neighbour_distances(z, 1)[100:, 0].max() < 1e-3
    assert int(typicality(z, 20).argmin()) in (100, 101)


def test_farthest_first_is_within_twice_the_best_radius():
    z = rows(11, 3)
    apart = distances(z)
    for k in (1, 2, 3, 4):
        chosen, reach = farthest_first(z, k)
        best = min(apart[:, list(few)].min(1).values.max() for few in itertools.combinations(range(11), k))
        assert apart[:, chosen].min(1).values.max() <= 2 * best + 1e-6
        for i in range(1, k):
            among = apart[:, chosen[:i]].min(1).values
            assert reach[i].item() == pytest.approx(among.max().item(), abs=1e-3)
            assert among[chosen[i]].item() == pytest.approx(among.max().item(), abs=1e-6)
        assert torch.isnan(reach[0])
        assert (reach[1:].diff() <= 1e-6).all()


def test_farthest_first_keeps_away_from_what_is_chosen_and_takes_everything_once():
    z = torch.cat([rows(5), rows(5)])  # each row twice
    chosen, reach = farthest_first(z, 10)
    assert sorted(chosen.tolist()) == list(range(10))
    assert (reach[5:] < 1e-3).all()
    assert len({row % 5 for row in chosen[:5].tolist()}) == 5
    more, far = farthest_first(z, 4, chosen=torch.tensor([0, 3]))
    assert not {0, 3, 5, 8} & set(more[:3].tolist())
    apart = distances(z)
    assert far[0].item() == pytest.approx(apart[:, [0, 3]].min(1).values.max().item(), abs=1e-3)
    with pytest.raises(ValueError, match="1 to 8"):
        farthest_first(z, 9, chosen=torch.tensor([0, 3, 3]))


def test_typical_rows_are_one_of_each_cluster_the_largest_first():
    centres = 6 * torch.eye(3, 8)
    y = torch.tensor([0] * 50 + [1] * 30 + [2] * 10)
    z = centres[y] + 0.4 * rows(90, 8)
    chosen, sizes = typical_rows(z, 3)
    assert y[chosen].tolist() == [0, 1, 2]
    assert sizes.tolist() == [50, 30, 10]
    for row in chosen.tolist():
        members = (y == y[row]).nonzero()[:, 0]
        within = typicality(z[members])
        assert row == int(members[within.argmax()])
    assert len(typical_rows(torch.ones(4, 3), 3)[0]) == 1


def test_clusters_are_ordered_by_size_and_rows_by_their_centre():
    y = torch.tensor([1] * 10 + [0] * 30 + [2] * 20)
    z = 5 * torch.eye(3, 8)[y] + 0.3 * rows(60, 8)
    found = clusters(5 * z, 3)
    assert found.sizes.tolist() == [30, 20, 10]
    assert torch.equal(found.assigned, torch.tensor([2] * 10 + [0] * 30 + [1] * 20))
    unit = functional.normalize(z, dim=1)
    torch.testing.assert_close(found.cosines, (unit * found.centres[found.assigned]).sum(1))
    ranked = found.rows(1)
    assert sorted(ranked.tolist()) == list(range(40, 60))
    assert (found.cosines[ranked].diff() <= 0).all()
    assert len(clusters(torch.ones(5, 2), 3).sizes) == 1
