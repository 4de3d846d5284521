"""Class retrieval against scikit-learn and torchmetrics; collapse must score chance."""

import math
from itertools import islice

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch.nn import functional
from torchmetrics.functional.retrieval import retrieval_average_precision, retrieval_hit_rate

from isosphere.evaluation import class_outcomes, class_retrieval, paired_difference


def queries_of(x, y):
    """(scores, relevance) of every query with at least one other of its class, one by one."""
    x = functional.normalize(x.double(), dim=1)
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i and y[j] >= 0]
        relevant = torch.tensor([bool(y[j] == y[i]) for j in others])
        if y[i] >= 0 and relevant.any():
            # Positive scores: torchmetrics takes negative ones for irrelevant.
            yield x[others] @ x[i] + 2, relevant


def test_equals_torchmetrics_and_scikit_learn():
    x, y = torch.randn(80, 5), torch.randint(4, (80,))
    x[:, :4] += 0.8 * functional.one_hot(y)
    got = class_retrieval(x, y)
    pairs = list(queries_of(x, y))
    assert got["map"].value == pytest.approx(
        np.mean([average_precision_score(r.numpy(), s.numpy()) for s, r in pairs])
    )
    assert got["map"].value == pytest.approx(
        np.mean([retrieval_average_precision(s, r).item() for s, r in pairs]), abs=1e-6
    )
    for k in (1, 5, 10):
        hits = np.mean([retrieval_hit_rate(s, r, top_k=k).item() for s, r in pairs])
        assert got[f"recall@{k}"].value == pytest.approx(hits)


def test_equals_scikit_learn_where_ties_abound():
    x, y = torch.randint(-1, 2, (60, 3)).float(), torch.randint(3, (60,))
    expected = []
    for scores, relevant in queries_of(x, y):
        # The same grid, so that rounding does not break scikit-learn's ties.
        expected.append(average_precision_score(relevant.numpy(), (scores * 2**36).round().numpy()))
    assert class_retrieval(x, y)["map"].value == pytest.approx(np.mean(expected))


def test_hits_among_ties_are_the_mean_over_random_orders():
    x, y = torch.randint(-1, 2, (40, 2)).float(), torch.randint(3, (40,))
    outcome = class_outcomes(x, y, k=(1, 3))
    generator = np.random.default_rng(0)
    for position, (scores, relevant) in enumerate(queries_of(x, y)):
        if position % 5:
            continue
        rounded, found = (scores * 2**36).round().numpy(), {1: 0, 3: 0}
        for _ in range(2000):
            order = np.lexsort((generator.random(len(rounded)), -rounded))
            for k in found:
                found[k] += bool(relevant.numpy()[order[:k]].any())
        for k, count in found.items():
            assert outcome.hits[k][position].item() == pytest.approx(count / 2000, abs=0.05)


def test_a_collapsed_encoder_scores_chance():
    y = torch.arange(101) % 2
    got = class_retrieval(torch.ones(101, 4), y, k=(1, 2))
    same = [50, 49]  # others of the query's class: 51 and 50 members
    precision = (51 * same[0] + 50 * same[1]) / 101 / 100
    assert got["map"].value == pytest.approx(precision)
    assert got["recall@1"].value == pytest.approx(precision)
    miss = [math.comb(100 - s, 2) / math.comb(100, 2) for s in same]
    assert got["recall@2"].value == pytest.approx(1 - (51 * miss[0] + 50 * miss[1]) / 101)


def test_unlabelled_rows_take_no_part_and_lonely_ones_are_no_queries():
    x, y = torch.randn(40, 4), torch.randint(3, (40,))
    y[5], y[6], y[7] = 17, -1, -1
    outcome = class_outcomes(x, y)
    kept = y >= 0
    assert {5, 6, 7}.isdisjoint(outcome.rows.tolist())
    assert len(outcome.rows) == 37
    alone = class_outcomes(x[kept], y[kept])
    assert torch.equal(outcome.average_precision, alone.average_precision)
    assert class_retrieval(x, y)["map"].value == pytest.approx(
        np.mean([average_precision_score(r.numpy(), s.numpy()) for s, r in queries_of(x, y)])
    )


def test_one_class_is_all_right_and_no_pair_is_nothing_known():
    x = torch.randn(12, 3)
    assert class_retrieval(x, torch.zeros(12, dtype=torch.long))["map"].value == pytest.approx(1.0)
    got = class_retrieval(x, torch.arange(12))
    assert all(math.isnan(e.value) for e in got.values())
    assert math.isnan(class_retrieval(x, torch.full((12,), -1))["map"].value)


def test_more_places_than_candidates_means_all():
    x = torch.randn(5, 3)
    assert class_retrieval(x, torch.tensor([0, 0, 1, 1, 1]), k=(100,))["recall@100"].value == pytest.approx(
        1.0
    )


def test_blocks_change_nothing():
    x, y = torch.randn(700, 4), torch.randint(5, (700,))  # more than one block of queries
    outcome = class_outcomes(x, y)
    pairs = list(islice(queries_of(x, y), 508, 518))
    expected = [average_precision_score(r.numpy(), s.numpy()) for s, r in pairs]
    assert outcome.average_precision[508:518].tolist() == pytest.approx(expected)


def test_outcomes_pair_up():
    x, y = torch.randn(300, 4), torch.randint(3, (300,))
    informed = x.clone()
    informed[:, :3] += functional.one_hot(y)
    first, second = class_outcomes(informed, y), class_outcomes(x, y)
    assert torch.equal(first.rows, second.rows)
    assert paired_difference(first.average_precision, second.average_precision).low > 0


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="expected \\(n, p\\)"):
        class_retrieval(torch.ones(3, 2), torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match="non-finite"):
        class_retrieval(torch.full((3, 2), float("inf")), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="numbers from 1"):
        class_retrieval(torch.ones(3, 2), torch.zeros(3, dtype=torch.long), k=(0,))
