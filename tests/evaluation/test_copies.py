"""Thresholds for copies: against scikit-learn's average precision, and where false pairs can be counted."""

import pytest
import torch
from sklearn.metrics import average_precision_score
from torch.nn import functional

from isosphere.evaluation import choose_threshold, copy_cosines, copy_precision, pair_precision, wilson


def rows(n, d=8, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_precision_of_copies_is_scikit_learns():
    images, copies = rows(60), rows(60)[:20] + 0.6 * rows(20, seed=1)
    unit, asked = (functional.normalize(x, dim=1) for x in (images, copies))
    expected = average_precision_score(
        torch.eye(20, 60).flatten().numpy(), (asked @ unit.T).flatten().numpy()
    )
    got = copy_precision(images, copies)
    assert got.value == pytest.approx(expected, abs=1e-6)
    assert got.low < got.value < got.high
    assert copy_precision(images, images[:20]).value == 1.0
    # Another file with the same content is no false alarm.
    twice = torch.cat([images, images[:20]])
    assert copy_precision(twice, images[:20]).value < 0.8
    same = torch.cat([torch.arange(60), torch.arange(20)])
    assert copy_precision(twice, images[:20], same=same).value == 1.0
    with pytest.raises(ValueError, match="at least as many"):
        copy_precision(images[:3], copies)


def planted(noise, n=3000, dim=4):
    """Images on a sphere in 16 dimensions, and copies of the first 400, 0.1 to 2 times `noise` beside them."""
    z = functional.pad(functional.normalize(rows(n, dim), dim=1), (0, 16 - dim))
    far = torch.linspace(0.1, 2, 400)[:, None] * noise
    copies = functional.normalize(z[:400] + far * rows(400, 16, seed=2) / 4, dim=1)
    return z, copies


def counted(z, threshold):
    c = functional.normalize(z.double(), dim=1)
    return int((torch.triu(c @ c.T, 1) >= threshold).sum())


def test_where_copies_are_far_nearer_than_images_all_are_found():
    z, copies = planted(1e-2, dim=6)
    found = choose_threshold(copy_cosines(z[:400], copies), ["jpeg", "crop"] * 200, z)
    assert found.recall.value == pytest.approx(0.995, abs=0.004)
    assert found.false_pairs is not None
    assert found.false_pairs < 0.1
    assert (found.copies, found.pairs) == (400, 3000 * 2999 // 2)
    assert set(found.recalls) == {"jpeg", "crop"}
    assert counted(z, found.threshold) == 0


def test_where_they_are_not_the_false_pairs_are_as_many_as_were_asked_for():
    z, copies = planted(0.03)
    kinds = ["jpeg"] * 400
    cosines = copy_cosines(z[:400], copies)
    one, many = (choose_threshold(cosines, kinds, z, false_pairs=f) for f in (1.0, 50.0))
    assert one.false_pairs == pytest.approx(1)
    assert many.false_pairs == pytest.approx(50)
    assert counted(z, many.threshold) == pytest.approx(50, abs=25)
    assert counted(z, one.threshold) <= 5
    assert one.recall.value < many.recall.value < 0.95
    assert many.recall.value == pytest.approx(float((cosines >= many.threshold).float().mean()), abs=1e-6)


def test_few_images_have_a_threshold_and_no_expectation():
    z, copies = planted(1e-2, 400)
    found = choose_threshold(copy_cosines(z[:5], copies[:5]), ["jpeg"] * 5, z[:5])
    assert found.false_pairs is None
    assert 0.9 < found.threshold <= 1
    with pytest.raises(ValueError, match="expected"):
        choose_threshold(torch.empty(0), [], z)


def test_answers_become_precisions_with_intervals():
    same = torch.tensor([1, 1, 1, 0, 1, 0, 0, 0, 0, 0], dtype=torch.bool)
    above = torch.arange(10) < 5
    up, down = pair_precision(same, above)
    assert (up, down) == (wilson(4, 5), wilson(0, 5))
