"""Whether labels decide: candidates with known outcomes."""

import numpy as np
import torch

from isosphere.workflows._compare import Ranking, ranked


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
