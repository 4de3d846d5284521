"""Recall of classes and balanced accuracy."""

import pytest
import torch

from isosphere.evaluation import balanced_accuracy, class_recalls, class_weights, paired_difference, wilson


def test_each_class_counts_the_same():
    labels = torch.tensor([0] * 285 + [1] * 15)
    always = (labels == 0).double()
    assert always.mean() == pytest.approx(0.95)
    assert balanced_accuracy(always, labels).value == 0.5
    assert class_recalls(always, labels) == {0: wilson(285, 285), 1: wilson(0, 15)}
    weighted = class_weights(labels) * always
    assert float(weighted.mean()) == pytest.approx(0.5)
    assert paired_difference(weighted, 0 * weighted).value == pytest.approx(0.5)


def test_of_even_classes_it_is_accuracy():
    labels, right = torch.arange(40) % 4, (torch.arange(40) % 3 > 0).double()
    assert balanced_accuracy(right, labels).value == pytest.approx(float(right.mean()))
    assert class_weights(labels).tolist() == [1] * 40
    one = balanced_accuracy(right, torch.zeros(40, dtype=torch.int64))
    assert one.low == pytest.approx(wilson(float(right.sum()), 40).low)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """Three classes of 60, 20 and 8 rows, found with probabilities .9, .6 and .5."""
    generator, truth = torch.Generator().manual_seed(0), 2.0 / 3
    labels = torch.repeat_interleave(torch.tensor([0, 1, 2]), torch.tensor([60, 20, 8]))
    chance = torch.tensor([0.9, 0.6, 0.5], dtype=torch.float64)[labels]
    held = 0
    for _ in range(400):
        right = (torch.rand(len(labels), generator=generator, dtype=torch.float64) < chance).double()
        found = balanced_accuracy(right, labels)
        held += found.low <= truth <= found.high
    assert 0.92 <= held / 400 <= 0.99


def test_without_rows_nothing_is_known_and_shapes_must_agree():
    nothing = balanced_accuracy(torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert nothing.value != nothing.value
    assert (nothing.low, nothing.high) == (0, 1)
    with pytest.raises(ValueError, match="expected"):
        class_recalls(torch.zeros(3), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="labels from 0"):
        class_recalls(torch.zeros(2), torch.tensor([0, -1]))
