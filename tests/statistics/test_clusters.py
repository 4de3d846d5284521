"""k-means and mutual information against scikit-learn; fewer distinct rows than clusters."""

from typing import Any

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from isosphere.statistics import kmeans, normalised_mutual_information


@pytest.mark.parametrize("spread", [0.3, 2.0])
def test_the_sum_of_squares_is_as_small_as_scikit_learns(spread):
    x = 3 * torch.randn(8, 5)[torch.arange(400) % 8] + spread * torch.randn(400, 5)
    assigned, centres, total = kmeans(x, 8)
    starts: Any = 10  # the annotation knows the name "auto" only
    reference = KMeans(8, n_init=starts, random_state=0).fit(x.numpy())
    assert total == pytest.approx((x - centres[assigned]).square().sum().item(), rel=1e-4)
    assert total <= (reference.inertia_ or 0) * 1.02
    assert torch.equal(assigned, torch.cdist(x, centres).argmin(1))


def test_separate_clusters_are_found_and_the_seed_decides():
    y = torch.arange(300) % 6
    x = 20 * torch.randn(6, 10)[y] + torch.randn(300, 10) + 100
    assigned, _, _ = kmeans(x, 6)
    assert normalised_mutual_information(assigned, y).item() == pytest.approx(1.0)
    noise = torch.randn(200, 3)
    state = torch.get_rng_state()
    assert torch.equal(kmeans(noise, 9, restarts=1)[0], kmeans(noise, 9, restarts=1)[0])
    assert not torch.equal(kmeans(noise, 9, restarts=1)[0], kmeans(noise, 9, restarts=1, seed=1)[0])
    assert torch.equal(state, torch.get_rng_state())


def test_fewer_distinct_rows_than_clusters():
    x = torch.eye(3).repeat(10, 1)
    assigned, centres, total = kmeans(x, 7)
    assert total < 1e-10
    assert len(assigned.unique()) == 3
    assert centres.shape == (7, 3)
    assert kmeans(torch.ones(5, 2), 5)[2] == 0
    assert kmeans(torch.randn(4, 2), 4)[2] == pytest.approx(0, abs=1e-10)
    with pytest.raises(ValueError, match="1 to n"):
        kmeans(torch.zeros(3, 2), 4)


@pytest.mark.parametrize(("first", "second"), [(2, 2), (5, 3), (10, 100)])
def test_mutual_information_is_scikit_learns(first, second):
    a = torch.randint(first, (200,))
    b = torch.where(torch.rand(200) < 0.5, a, torch.randint(second, (200,)))
    expected = normalized_mutual_info_score(a.numpy(), b.numpy())
    assert normalised_mutual_information(a, b).item() == pytest.approx(expected)
    holes = torch.where(torch.arange(200) % 4 == 0, -1, a)
    kept = holes >= 0
    assert normalised_mutual_information(holes, b).item() == pytest.approx(
        normalized_mutual_info_score(a[kept].numpy(), b[kept].numpy())
    )


def test_mutual_information_at_its_ends():
    a = torch.arange(12) % 3
    assert normalised_mutual_information(a, a * 7 + 1).item() == pytest.approx(1.0)
    assert normalised_mutual_information(a, torch.arange(12) // 3 % 2 * 0).item() == 0.0
    assert normalised_mutual_information(a * 0, a * 0).item() == 1.0
    assert normalised_mutual_information(a, torch.full((12,), -1)).isnan()
    with pytest.raises(ValueError, match="expected \\(n,\\)"):
        normalised_mutual_information(a, a[:3])
