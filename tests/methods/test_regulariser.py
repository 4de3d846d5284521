"""The weight of a regulariser: found by prepare alone, kept in the state, and said where it does not fit."""

import warnings

import pytest
import torch
from torch import nn

from isosphere.discrepancies import MMD, SUSReg, Uniformity
from isosphere.kernels import HeatKernel
from isosphere.methods import BYOL, JEPA, VJE, DeepJEPA, Regulariser, balanced_weight
from isosphere.models import InferenceNetwork

DIM, WIDTH = 8, 10


def encoder():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, WIDTH))


def jepa(**options):
    return JEPA(encoder(), nn.Linear(WIDTH, DIM), SUSReg(DIM, num_slices=64), **options)


METHODS = {
    "jepa": jepa,
    "deep": lambda: DeepJEPA(
        encoder(), nn.Linear(WIDTH, DIM), MMD(HeatKernel(DIM)), MMD(HeatKernel(WIDTH)), cutoff=0.4
    ),
    "byol": lambda: BYOL(
        encoder(), nn.Linear(WIDTH, DIM), nn.Linear(DIM, DIM), terms=[Regulariser(MMD(HeatKernel(DIM)))]
    ),
    "vje": lambda: VJE(
        encoder(), InferenceNetwork(WIDTH, 16), regulariser=Regulariser(MMD(HeatKernel(WIDTH)))
    ),
}


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]()


def some_views(n=16, views=2):
    return [torch.randn(n, 3, 2, 2) for _ in range(views)]


def state(method):
    return {k: v.double().nan_to_num(-1.0) for k, v in method.state_dict().items()}


def weights(method):
    return [part.weight.item() for part in method.modules() if isinstance(part, Regulariser)]


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"n": 0, "views": 2}, "got n=0, expected a whole number, at least 1"),
        ({"n": 2.5, "views": 2}, r"got n=2\.5, expected a whole number"),
        ({"n": 64, "views": 0}, "got views=0, expected a whole number, at least 2"),
    ],
)
def test_sizes_that_no_batch_has_are_refused(method, sizes, words):
    with pytest.raises(ValueError, match=words):
        method.prepare(**sizes)


def test_views_of_unequal_numbers_of_images_are_refused(method):
    with pytest.raises(ValueError, match=r"got views of \[8, 7\] images"):
        method.prepare(n=8, views=2)([*some_views(8, 1), *some_views(7, 1)])


@pytest.mark.parametrize("training", [True, False])
def test_without_a_weight_it_says_what_to_call(method, training):
    method.train(training)
    with pytest.raises(RuntimeError, match=r"call method\.prepare\(n=16, views=2\) or give weight=\.\.\."):
        method(some_views())
    assert all(weight != weight for weight in weights(method))  # and has found none


def test_looks_before_training_freeze_nothing(method):
    """An evaluation of 8 rows, a description of 6, a step on 4: the weight is that of the batches it was asked for."""
    other = METHODS["jepa"]() if isinstance(method, JEPA) else None
    method.describe(some_views(6))
    method.prepare(n=64, views=2)
    expected = weights(method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method.eval()(some_views(8))
        method.describe(some_views(6))
        method.train()(some_views(4)).total.backward()
    assert weights(method) == expected
    assert other is None or other.prepare(n=8, views=2).weight != method.weight


def test_describe_and_forward_change_nothing(method):
    method.eval()
    before = state(method)
    method.describe()
    method.describe(some_views())
    after = state(method)
    assert all(torch.equal(after[k], v) for k, v in before.items())
    method.prepare(n=16, views=2)
    before = state(method)
    method(some_views())
    method.describe(some_views())
    after = state(method)
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_prepare_is_for_a_size_and_may_be_called_again(method):
    found = weights(method.prepare(n=16, views=2))
    assert weights(method.prepare(n=16, views=2)) == found
    assert weights(method.prepare(n=64, views=2)) != found
    assert weights(method.prepare(n=16, views=2)) == pytest.approx(found)


def test_a_resumed_method_goes_on_with_the_weight_it_had(method):
    """Whether it was prepared for the same, for another size, or not at all before its state is loaded."""
    method.prepare(n=16, views=2)
    for part in method.modules():
        if isinstance(part, Regulariser):
            part.weight.mul_(0.9)  # as another version might have found it
    expected, kept = weights(method), method.state_dict()
    for n in (None, 16, 64):
        name = next(name for name, build in METHODS.items() if type(build()) is type(method))
        other = METHODS[name]()
        if n is not None:
            other.prepare(n=n, views=2)
        other.load_state_dict(kept)
        assert weights(other.prepare(n=16, views=2)) == expected
        other(some_views())
        assert weights(other) == expected


def test_a_state_brings_the_weight_and_where_it_comes_from():
    found, given = jepa().prepare(n=32, views=3), jepa(weight=0.5)
    ours, theirs = jepa(weight=0.5), jepa()
    ours.load_state_dict(found.state_dict())
    assert ours.weight == found.weight
    assert ours.describe()["weight"].endswith("(found for 32 rows in 3 views)")
    theirs.load_state_dict(given.state_dict())
    assert theirs.describe()["weight"].endswith("(given)")
    assert theirs.prepare(n=32, views=3).weight == 0.5
    theirs.load_state_dict(found.state_dict())
    assert theirs.describe() == found.describe()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours(some_views())  # by which rule it was found nobody knows


def test_the_state_says_what_the_weight_was_found_for():
    assert jepa().prepare(n=32, views=3).state_dict()["regulariser.found_for"].tolist() == [32, 3]
    assert jepa(weight=0.5).prepare(n=32, views=3).state_dict()["regulariser.found_for"].tolist() == [0, 0]


def test_a_batch_of_another_size_warns_once_where_it_matters():
    """SUSReg grows with n, MMD does not: 12 rows for 16 are near, 128 are not."""
    method = jepa().prepare(n=16, views=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method(some_views(15))
    with pytest.warns(UserWarning, match=r"found for 16 rows in 2 views, .* has 128 in 2, .* gives") as told:
        method(some_views(128))
    assert "method.prepare(n=128, views=2)" in str(told[0].message)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method(some_views(128))
        method(some_views(256))
        jepa(weight=0.5)(some_views(128))


def test_a_given_weight_needs_no_preparation():
    method = jepa(weight=0.25)
    assert method.prepare(n=64, views=2) is method
    assert method.weight.item() == 0.25
    assert method(some_views()).total.isfinite()


def test_the_weight_is_the_rules():
    test = SUSReg(DIM, num_slices=64)
    assert jepa().prepare(n=32, views=2).weight.item() == pytest.approx(balanced_weight(test, 32, 0.5))


def test_a_discrepancy_of_any_dimension_stays_one():
    test = Uniformity()
    for dim in (3, 4):
        assert test(torch.eye(dim)).isfinite()
        assert test.takes(dim + 1)
    with pytest.raises(ValueError, match="built for any dimension"):
        test.null(5)
    assert test.zscore(torch.eye(4)) == Uniformity(dim=4).zscore(torch.eye(4))
