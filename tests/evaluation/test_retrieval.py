"""Instance retrieval against brute force and torchmetrics; collapse must score chance."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchmetrics.functional.retrieval import retrieval_recall, retrieval_reciprocal_rank

from isosphere.evaluation import (
    instance_neighbours,
    instance_protocol,
    instance_ranks,
    instance_retrieval,
    paired_difference,
)


def two_views(n, d, noise):
    z = torch.randn(n, d)
    return z + noise * torch.randn(n, d), z + noise * torch.randn(n, d)


def candidates_of(x, y, start, batch, i, convention):
    """Similarities and relevance of the candidates of query i, listed one by one."""
    scores, relevant = [], []
    for j in range(start, start + batch):
        scores.append(functional.cosine_similarity(x[i].double(), y[j].double(), dim=0))
        relevant.append(i == j)
    if convention == "all":
        for j in range(start, start + batch):
            if j != i:
                scores.append(functional.cosine_similarity(x[i].double(), x[j].double(), dim=0))
                relevant.append(False)
    # Positive scores: torchmetrics takes negative ones for irrelevant.
    return torch.stack(scores) + 2, torch.tensor(relevant)


@pytest.mark.parametrize("convention", ["targets", "all"])
def test_equals_torchmetrics_query_by_query(convention):
    x, y = two_views(43, 6, 0.7)
    got = instance_retrieval(x, y, batch=20, candidates=convention)
    recalls, precisions = {1: [], 3: [], 5: []}, []
    for start in (0, 20):
        for i in range(start, start + 20):
            scores, relevant = candidates_of(x, y, start, 20, i, convention)
            precisions.append(retrieval_reciprocal_rank(scores, relevant).item())
            for k, values in recalls.items():
                values.append(retrieval_recall(scores, relevant, top_k=k).item())
    assert got["map"].value == pytest.approx(np.mean(precisions), abs=1e-6)
    for k, values in recalls.items():
        assert got[f"recall@{k}"].value == pytest.approx(np.mean(values), abs=1e-6)
    assert all(e.low <= e.value <= e.high for e in got.values())


@pytest.mark.parametrize(("convention", "count"), [("targets", 100), ("all", 199)])
@pytest.mark.parametrize("collapse", ["constant", "float32 noise", "zero"])
def test_a_collapsed_encoder_scores_exactly_chance(convention, count, collapse):
    x = torch.full((300, 16), 0.37)
    if collapse == "float32 noise":
        # Rounding that depends on the position in the batch is the same in both views: it must not identify
        # images.
        x = x * (1 + 2e-7 * torch.randn(100, 16)).repeat(3, 1)
    if collapse == "zero":
        x = torch.zeros(300, 16)
    got = instance_retrieval(x, x.clone(), candidates=convention)
    for k in (1, 3, 5):
        assert got[f"recall@{k}"].value == pytest.approx(k / count, rel=1e-9)
    assert got["map"].value == pytest.approx(sum(1 / r for r in range(1, count + 1)) / count, rel=1e-9)
    protocol = instance_protocol(300, candidates=convention)
    assert protocol["chance_recall@1"] == pytest.approx(got["recall@1"].value)
    assert protocol["chance_map"] == pytest.approx(got["map"].value)


def test_ties_count_as_the_mean_over_their_orders():
    # One batch of 4 in which the target of query 0 ties with two others and one is better.
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    y = torch.tensor([[0.6, 0.8], [0.6, -0.8], [1.0, 0.0], [0.6, 0.8]])
    ranks = instance_ranks(x, y, batch=4)
    assert (ranks.better[0].item(), ranks.tied[0].item()) == (1, 2)
    assert ranks.recall(1)[0].item() == 0
    assert ranks.recall(2)[0].item() == pytest.approx(1 / 3)
    assert ranks.recall(4)[0].item() == 1
    assert ranks.reciprocal_rank()[0].item() == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)


def test_a_perfect_encoder_finds_everything_without_claiming_certainty():
    x = torch.randn(200, 8)
    got = instance_retrieval(x, x)
    assert got["recall@1"].value == got["map"].value == 1.0
    assert got["recall@1"].low < 1.0
    assert got["map"].low < 1.0


def test_duplicated_images_share_their_hits():
    x = torch.randn(50, 8).repeat_interleave(2, 0)
    got = instance_retrieval(x, x)
    assert got["recall@1"].value == pytest.approx(0.5)
    assert got["map"].value == pytest.approx(0.75)


def test_the_last_partial_batch_is_dropped_and_reported():
    x, y = two_views(250, 8, 0.5)
    protocol = instance_protocol(250)
    assert (protocol["batches"], protocol["queries"], protocol["dropped"]) == (2, 200, 50)
    assert len(instance_ranks(x, y)) == 200
    y[200:] = 0
    assert instance_retrieval(x, y) == instance_retrieval(x[:200], y[:200])


def test_more_candidates_are_harder():
    x, y = two_views(300, 8, 0.6)
    few, many = instance_retrieval(x, y), instance_retrieval(x, y, candidates="all")
    assert many["map"].value < few["map"].value


def test_two_encoders_are_compared_on_the_same_queries():
    z = torch.randn(600, 16)
    good = z + 0.6 * torch.randn(600, 16)
    better = z + 0.5 * (good - z)
    difference = paired_difference(
        instance_ranks(z, better).reciprocal_rank(), instance_ranks(z, good).reciprocal_rank()
    )
    assert difference.low > 0
    one, two = instance_retrieval(z, better)["map"], instance_retrieval(z, good)["map"]
    assert difference.value == pytest.approx(one.value - two.value)
    assert difference.high - difference.low < (one.high - one.low) + (two.high - two.low)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"targets": torch.ones(200, 3)}, "one \\(m, d\\) for both"),
        ({"queries": torch.ones(60, 4), "targets": torch.ones(60, 4)}, "a batch of 60"),
        ({"batch": 1}, "2 or more"),
        ({"candidates": "everything"}, "'targets'"),
        ({"queries": torch.full((200, 4), float("nan"))}, "queries: got non-finite"),
    ],
)
def test_wrong_arguments_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        instance_retrieval(**({"queries": torch.ones(200, 4), "targets": torch.ones(200, 4)} | arguments))


def test_neighbours_for_a_picture_agree_with_the_ranks():
    x, y = two_views(120, 6, 0.6)
    rows = [0, 39, 40, 119]
    found = instance_neighbours(x, y, rows, k=4, batch=40)
    ranks = instance_ranks(x, y, batch=40)
    assert found.ranks.tolist() == (ranks.better[rows] + 1).tolist()
    cosines = functional.normalize(x[rows], dim=1) @ functional.normalize(y, dim=1).T
    for r, row in enumerate(rows):
        batch = slice(row - row % 40, row - row % 40 + 40)
        expected = cosines[r, batch].topk(4)
        assert found.indices[r].tolist() == (expected.indices + batch.start).tolist()
        torch.testing.assert_close(found.similarities[r], expected.values)


def test_a_picture_of_a_collapsed_encoder_finds_nothing():
    z = torch.ones(100, 4)
    found = instance_neighbours(z, z, torch.tensor([0, 7]), k=3)
    assert found.indices.tolist() == [[1, 2, 3], [0, 1, 2]]
    assert found.ranks.tolist() == [100, 100]
    with pytest.raises(ValueError, match="0 to 99"):
        instance_neighbours(z, z, [100])
    with pytest.raises(ValueError, match="1 to 100"):
        instance_neighbours(z, z, [0], k=101)
