"""k-NN against scikit-learn, and where scikit-learn has no answer against the definition."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional

from isosphere.evaluation import knn, knn_predict


def sklearn_predict(train_x, train_y, test_x, k, temperature):
    def weights(distances):
        similarity = 1 - distances**2 / 2
        return np.exp(similarity / temperature) if temperature else np.ones_like(distances)

    chosen: Any = weights  # scikit-learn's annotation knows the names only
    model = KNeighborsClassifier(k, weights=chosen, algorithm="brute")
    model.fit(functional.normalize(train_x.double(), dim=1).numpy(), train_y.numpy())
    return model.predict(functional.normalize(test_x.double(), dim=1).numpy())


def clusters(n, classes, dim, spread=1.0):
    centres = torch.randn(classes, dim)
    labels = torch.randint(classes, (n,))
    return centres[labels] + spread * torch.randn(n, dim), labels


@pytest.mark.parametrize("k", [1, 5, 20, 200])
@pytest.mark.parametrize("temperature", [0.07, 0.5, None])
def test_predictions_are_scikit_learns(k, temperature):
    x, y = clusters(900, 7, 12)
    got = knn_predict(x[:600], y[:600], x[600:], k=k, temperature=temperature)
    expected = sklearn_predict(x[:600], y[:600], x[600:], k, temperature)
    assert (got.numpy() == expected).all()
    accuracy = knn(x[:600], y[:600], x[600:], y[600:], k=k, temperature=temperature)
    assert accuracy.value == pytest.approx((expected == y[600:].numpy()).mean())
    assert accuracy.low < accuracy.value < accuracy.high


def test_arrays_do_as_well_as_tensors():
    x, y = clusters(200, 3, 5)
    got = knn(x[:150].numpy(), y[:150].numpy(), x[150:].numpy(), y[150:].numpy())
    assert got == knn(x[:150], y[:150], x[150:], y[150:])


def test_the_scale_of_features_does_not_matter():
    x, y = clusters(300, 4, 6)
    scaled = x * torch.rand(300, 1).add(0.1) * 100
    assert torch.equal(
        knn_predict(x[:200], y[:200], x[200:]), knn_predict(scaled[:200], y[:200], scaled[200:])
    )


def test_of_equal_neighbours_the_first_count_and_of_equal_votes_the_smaller_label():
    train, test = torch.ones(4, 2), torch.ones(1, 2)
    assert knn_predict(train, torch.tensor([3, 1, 1, 1]), test, k=1).item() == 3
    assert knn_predict(train, torch.tensor([3, 1, 0, 0]), test, k=2).item() == 1
    assert knn_predict(train, torch.tensor([3, 1, 0, 0]), test, k=4).item() == 0


def test_duplicates_vote_as_often_as_they_occur():
    train = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.1], [1.0, 0.1]])
    labels = torch.tensor([0, 1, 1, 1])
    assert knn_predict(train, labels, torch.tensor([[1.0, 0.0]]), k=1).item() == 0
    assert knn_predict(train, labels, torch.tensor([[1.0, 0.0]]), k=4).item() == 1


def test_more_neighbours_than_rows_means_all_rows():
    x, y = clusters(60, 3, 4)
    got = knn_predict(x[:40], y[:40], x[40:], k=1000)
    assert (got.numpy() == sklearn_predict(x[:40], y[:40], x[40:], 40, 0.07)).all()


def test_one_class_is_always_right():
    x = torch.randn(30, 4)
    got = knn(x, torch.full((30,), 5), x, torch.full((30,), 5))
    assert got.value == 1.0
    assert got.low < 1.0


def test_unlabelled_rows_are_left_out_on_both_sides():
    x, y = clusters(300, 3, 6)
    hidden = y.clone()
    hidden[::3] = -1
    got = knn(x[:200], hidden[:200], x[200:], hidden[200:])
    train, test = hidden[:200] >= 0, hidden[200:] >= 0
    assert got == knn(x[:200][train], y[:200][train], x[200:][test], y[200:][test])


def test_a_class_absent_from_training_is_wrong_and_absent_from_the_test_set_harmless():
    x = functional.one_hot(torch.arange(3)).float()
    assert knn(x[:2], torch.tensor([0, 1]), x, torch.tensor([0, 1, 2]), k=1).value == pytest.approx(2 / 3)
    assert knn(x, torch.tensor([0, 1, 9]), x[:2], torch.tensor([0, 1]), k=1).value == 1.0


def test_test_labels_do_not_set_the_number_of_classes():
    x = torch.randn(6, 3)
    assert knn(x, torch.tensor([0, 0, 0, 1, 1, 1]), x[:1], torch.tensor([10**9]), k=1).value == 0.0


def test_no_labelled_test_row_leaves_nothing_known():
    x = torch.randn(4, 3)
    got = knn(x, torch.zeros(4, dtype=torch.long), x, torch.full((4,), -1))
    assert np.isnan(got.value)
    assert (got.low, got.high) == (0.0, 1.0)


def test_a_collapsed_encoder_scores_chance():
    y = torch.arange(1000) % 10
    got = knn(torch.full((1000, 8), 0.3), y, torch.full((500, 8), 0.3), y[:500])
    assert got.value == pytest.approx(0.1)


def test_zero_rows_are_equally_far_from_everything():
    x = torch.cat([torch.zeros(1, 3), torch.eye(3)])
    assert knn_predict(x, torch.tensor([2, 0, 1, 3]), torch.zeros(1, 3), k=4).item() == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"train_y": torch.full((5,), -1)}, "no labelled row"),
        ({"train_y": torch.zeros(4, dtype=torch.long)}, "as many of each"),
        ({"train_y": torch.zeros(5)}, "expected integers"),
        ({"k": 0}, "expected 1 or more"),
        ({"temperature": 0.0}, "positive"),
        ({"num_classes": 2}, "more than the largest label 4"),
        ({"test_x": torch.full((2, 3), float("nan"))}, "non-finite"),
        ({"test_x": torch.ones(2, 4)}, "expected"),
    ],
)
def test_wrong_arguments_are_refused(change, says):
    arguments = {"train_x": torch.eye(5)[:, :3], "train_y": torch.arange(5), "test_x": torch.ones(2, 3)}
    with pytest.raises(ValueError, match=says):
        knn_predict(**(arguments | change))
