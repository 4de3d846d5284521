"""Novelty: metrics and scores against scikit-learn, ties, and what degenerate sets leave to say."""

import numpy as np
import pytest
import torch
from sklearn.covariance import ShrunkCovariance
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors
from torch.nn import functional

from isosphere.evaluation import detection, ood, ood_scores
from isosphere.evaluation._ood import SCORES, class_cosine, feature_norm, knn_distance, mahalanobis


def by_scikit_learn(inside, outside):
    score = np.concatenate([inside, outside])
    foreign = np.concatenate([np.zeros(len(inside)), np.ones(len(outside))])
    false, true, _ = roc_curve(foreign, score, drop_intermediate=False)
    return {
        "auroc": roc_auc_score(foreign, score),
        "aupr_out": average_precision_score(foreign, score),
        "aupr_in": average_precision_score(1 - foreign, -score),
        "fpr@95": false[np.argmax(true >= 0.95)],
    }


@pytest.mark.parametrize("decimals", [6, 1, 0])  # from no ties to many
@pytest.mark.parametrize(("m", "q"), [(300, 80), (20, 400), (1, 1), (5, 1)])
def test_metrics_are_scikit_learns(m, q, decimals):
    inside, outside = torch.randn(m).round(decimals=decimals), (torch.randn(q) + 1).round(decimals=decimals)
    got = detection(inside, outside, resamples=50)
    assert list(got) == ["auroc", "aupr_out", "aupr_in", "fpr@95"]
    for name, expected in by_scikit_learn(inside.numpy(), outside.numpy()).items():
        assert got[name].value == pytest.approx(expected, abs=1e-12), name
        assert 0 <= got[name].low <= got[name].high <= 1


def test_intervals_are_those_of_resampled_sets():
    inside, outside = torch.randn(120), torch.randn(60) + 1
    got = detection(inside, outside, resamples=2000)
    generator = np.random.default_rng(1)
    draws = [
        by_scikit_learn(generator.choice(inside, 120), generator.choice(outside, 60)) for _ in range(120)
    ]
    for name, estimate in got.items():
        low, high = np.quantile([draw[name] for draw in draws], [0.025, 0.975])
        width = high - low
        assert estimate.low == pytest.approx(low, abs=0.3 * width), name
        assert estimate.high == pytest.approx(high, abs=0.3 * width), name
    assert got == detection(inside, outside, resamples=2000)
    assert got != detection(inside, outside, resamples=2000, seed=1)


def test_perfect_constant_and_empty():
    perfect = detection(torch.zeros(50), torch.ones(30))
    assert [e.value for e in perfect.values()] == [1, 1, 1, 0]
    constant = detection(torch.zeros(30), torch.zeros(10))
    assert [e.value for e in constant.values()] == pytest.approx([0.5, 0.25, 0.75, 1])
    assert all(np.isnan(e.value) for e in detection(torch.zeros(0), torch.zeros(10)).values())
    with pytest.raises(ValueError, match="finite"):
        detection(torch.tensor([float("nan")]), torch.zeros(1))


@pytest.mark.parametrize("k", [1, 9, 500])
def test_neighbour_distance_is_scikit_learns(k):
    train, x = torch.randn(100, 7), torch.randn(20, 7)
    model = NearestNeighbors(n_neighbors=min(k, 100), metric="cosine", algorithm="brute").fit(train.numpy())
    expected = model.kneighbors(x.numpy())[0][:, -1]
    np.testing.assert_allclose(knn_distance(train, x, k=k), expected, atol=1e-6)


@pytest.mark.parametrize("shrinkage", [1e-3, 0.3, 1.0])
def test_mahalanobis_is_scikit_learns(shrinkage):
    train, x = torch.randn(90, 5) @ torch.randn(5, 5) + 2, torch.randn(30, 5)
    one = ShrunkCovariance(shrinkage=shrinkage).fit(train.double().numpy())
    np.testing.assert_allclose(
        mahalanobis(train, x, shrinkage=shrinkage), one.mahalanobis(x.double().numpy()), rtol=1e-8
    )
    y = torch.arange(90) % 3
    means = torch.stack([train.double()[y == c].mean(0) for c in range(3)])
    shared = ShrunkCovariance(shrinkage=shrinkage, assume_centered=True)
    inverse = torch.as_tensor(shared.fit((train.double() - means[y]).numpy()).precision_)
    gaps = x.double()[:, None] - means
    expected = torch.einsum("mcp,pq,mcq->mc", gaps, inverse, gaps).amin(1)
    got = mahalanobis(train, x, train_y=y * 2 + 1, shrinkage=shrinkage)
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)


def test_cosine_to_the_nearest_mean_and_norm_are_their_formulas():
    train, x, y = torch.randn(60, 4), torch.randn(10, 4), torch.arange(60) % 4
    unit = functional.normalize(train.double(), dim=1)
    means = torch.stack([unit[y == c].mean(0) for c in range(4)])
    expected = 1 - functional.cosine_similarity(x.double()[:, None], means[None], dim=2).amax(1)
    torch.testing.assert_close(class_cosine(train, x, train_y=y), expected)
    torch.testing.assert_close(feature_norm(x), -torch.linalg.vector_norm(x.double(), dim=1))


def test_without_labels_there_is_one_class_and_unlabelled_rows_are_left_out():
    train, x = torch.randn(60, 4), torch.randn(10, 4)
    for score in (mahalanobis, class_cosine):
        whole = score(train, x)
        torch.testing.assert_close(score(train, x, train_y=torch.full((60,), -1)), whole)
        torch.testing.assert_close(score(train, x, train_y=torch.full((60,), 3)), whole)
        some = torch.where(torch.arange(60) < 20, -1, torch.arange(60) % 2)
        torch.testing.assert_close(score(train, x, train_y=some), score(train[20:], x, train_y=some[20:]))


def test_foreign_sets_far_away_are_found_and_near_ones_are_not():
    centres = 4 * torch.randn(3, 16)
    y = torch.arange(300) % 3
    train, inside = centres[y] + torch.randn(300, 16), centres[y] + torch.randn(300, 16)
    sets: dict = {
        "same": centres[y] + torch.randn(300, 16),
        "far": (-centres[y] + torch.randn(300, 16)).numpy(),
    }
    got = ood(train, inside, sets, train_y=y)
    assert list(got) == ["same", "far"]
    for score in SCORES:
        assert 0.4 < got["same"][score]["auroc"].value < 0.6, score
    for score in ("knn", "mahalanobis", "class-cosine"):
        assert got["far"][score]["auroc"].value > 0.99, score


def test_a_collapsed_encoder_detects_nothing():
    ones = torch.full((40, 5), 0.3)
    for metrics in ood(ones, ones[:20], {"other": ones[:10]})["other"].values():
        assert metrics["auroc"].value == 0.5


def test_fewer_rows_than_features_and_duplicates_are_no_trouble():
    train = torch.randn(5, 40).repeat(3, 1)
    scores = ood_scores(train, torch.randn(7, 40), train_y=torch.arange(5).repeat(3))
    assert list(scores) == list(SCORES)
    assert all(torch.isfinite(values).all() and values.shape == (7,) for values in scores.values())
    assert all(values.shape == (0,) for values in ood_scores(train, torch.zeros(0, 40)).values())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: knn_distance(torch.zeros(3, 2), torch.zeros(3, 3)), "expected"),
        (lambda: knn_distance(torch.zeros(3, 2), torch.zeros(3, 2), k=0), "1 or more"),
        (lambda: knn_distance(torch.zeros(0, 2), torch.zeros(3, 2)), "n >= 1"),
        (lambda: mahalanobis(torch.zeros(3, 2), torch.zeros(3, 2), shrinkage=0.0), "above 0"),
        (
            lambda: class_cosine(torch.zeros(3, 2), torch.zeros(3, 2), train_y=torch.zeros(2).long()),
            "as many",
        ),
        (lambda: feature_norm(torch.full((2, 2), float("nan"))), "non-finite"),
    ],
)
def test_wrong_arguments_are_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
