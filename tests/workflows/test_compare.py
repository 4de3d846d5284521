"""Whether labels decide: candidates with known outcomes."""

from dataclasses import replace

import numpy as np
import torch

from isosphere.evaluation import Estimate
from isosphere.workflows._compare import Rank, Ranking, ranked


def outcomes(share, n=400, seed=0):
    """Exactly this share of ones, at places drawn by the seed."""
    right = np.arange(n) < round(share * n)
    return torch.from_numpy(np.random.default_rng(seed).permutation(right).astype(float))


def ranking(scores, groups):
    return Ranking(ranked(scores, groups), len(groups), len(groups.unique()), 0.5, [])


def test_a_clear_difference_is_told_and_a_small_one_is_not():
    alone = torch.arange(400)
    clear = ranking({("a", "backbone", 1): outcomes(0.7), ("b", "backbone", 1): outcomes(0.9, seed=1)}, alone)
    assert [each.run for each in clear.ranks] == ["b", "a"]
    assert not clear.ranks[1].tied
    assert clear.verdict == "b, backbone is the best by these 400 labels."
    near = ranking({("a", "backbone", 1): outcomes(0.8), ("b", "head", 2): outcomes(0.82, seed=1)}, alone)
    assert near.ranks[1].tied
    assert "cannot tell" in near.verdict
    assert near.enough is None or near.enough > 400


def test_more_labels_are_never_fewer_than_there_are():
    """Whatever stands between the first and those that it cannot be told from."""
    alone = torch.arange(45)
    for seed in range(12):
        scores = {(f"{i}", "backbone", 1): outcomes(0.9 - 0.06 * i, 45, seed=seed + i) for i in range(4)}
        found = ranking(scores, alone)
        tied = [each.behind for each in found.ranks if each.tied]
        if not tied or tied[0].value <= 0:
            assert found.enough is None
            continue
        assert found.enough > 45
        assert "About 45 labels" not in found.verdict
    one, two, three = Rank("a", "b", 1, sure(0.9), None, False), sure(0.3, 0.2, 0.4), sure(0.2, 0.0, 0.4)
    ranks = [one, Rank("c", "b", 1, sure(0.6), two, False), Rank("d", "b", 1, sure(0.7), three, True)]
    edge = Ranking(ranks, 45, 45, 0.5, [])
    assert edge.enough == 46
    assert "A few more labels would" in edge.verdict
    wide = replace(edge, ranks=[*ranks[:2], replace(ranks[2], behind=sure(0.1, -0.1, 0.3))])
    assert wide.enough == 180
    assert "About 180 labels would" in wide.verdict


def sure(value, low=0.0, high=1.0):
    return Estimate(value, low, high)


def test_copies_do_not_make_labels_decide():
    few = torch.arange(400) // 20
    a, b = outcomes(0.75, 20).repeat_interleave(20), outcomes(0.9, 20, seed=1).repeat_interleave(20)
    scores = {("a", "backbone", 1): a, ("b", "backbone", 1): b}
    assert ranking(scores, few).ranks[1].tied
    assert not ranking(scores, torch.arange(400)).ranks[1].tied


def test_the_more_are_compared_the_more_it_takes():
    alone = torch.arange(400)
    pair = {("a", "backbone", 1): outcomes(0.9), ("b", "backbone", 1): outcomes(0.85, seed=1)}
    many = pair | {(f"c{i}", "head", 1): outcomes(0.5, seed=9 + i) for i in range(20)}
    widths = [
        next(each.behind for each in ranked(scores, alone) if each.run == "b") for scores in (pair, many)
    ]
    assert widths[1].high - widths[1].low > 1.2 * (widths[0].high - widths[0].low)
    same = ranking(
        {("a", "backbone", 1): pair["a", "backbone", 1], ("b", "head", 1): pair["a", "backbone", 1]}, alone
    )
    assert same.enough is None
    assert "more labels would" in same.verdict
