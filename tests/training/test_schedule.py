"""The learning rate as a function of how far a run has come."""

import itertools
import math

import pytest

from isosphere.training import Plan, learning_rate_factor


def steps(**changes):
    return Plan(**{"steps": 100, "seconds": None, "warmup_steps": 10, "final_fraction": 0.01} | changes)


def timed(**changes):
    return Plan(**{"steps": None, "seconds": 50.0, "warmup_steps": 10, "final_fraction": 0.0} | changes)


def test_ends_of_the_cosine():
    assert learning_rate_factor(0.0, 1.0, 0.01) == pytest.approx(1.0)
    assert learning_rate_factor(1.0, 1.0, 0.01) == pytest.approx(0.01)
    assert learning_rate_factor(0.5, 1.0, 0.01) == pytest.approx(0.505)
    assert learning_rate_factor(7.0, 1.0, 0.01) == pytest.approx(0.01)


def test_linear_warm_up_then_decay():
    plan = steps()
    factors = [plan.factor(k, 0.0) for k in range(100)]
    assert factors[0] == pytest.approx(0.1, rel=1e-3)
    assert all(a < b for a, b in itertools.pairwise(factors[:10]))
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))
    assert factors[60] == pytest.approx(0.01 + 0.99 * (1 + math.cos(0.6 * math.pi)) / 2)


def test_no_warm_up():
    assert steps(warmup_steps=0).factor(0, 0.0) == pytest.approx(1.0)


def test_time_decides_where_time_is_given():
    plan = timed()
    assert plan.progress(3, 25.0) == 0.5
    assert plan.progress(10**6, 60.0) == 1.0
    assert plan.factor(1000, 25.0) == pytest.approx(0.5)


def test_an_epoch_longer_than_the_run_does_not_stretch_the_warm_up():
    plan = timed(warmup_steps=10**6)
    assert plan.factor(0, 2.5) == pytest.approx(0.5 * (1 + math.cos(0.05 * math.pi)) / 2)
    assert plan.factor(3, 5.0) == pytest.approx((1 + math.cos(0.1 * math.pi)) / 2)


def test_finished():
    assert not steps().finished(99, 1e9)
    assert steps().finished(100, 0.0)
    assert steps(steps=0).finished(0, 0.0)
    assert not timed().finished(10**9, 49.0)
    assert timed().finished(0, 49.0, step_seconds=2.0)
    assert timed().finished(0, 50.0)


def test_remaining():
    assert steps().remaining(40, 0.0, 0.5) == 30.0
    assert timed().remaining(40, 20.0, 0.5) == 30.0


@pytest.mark.parametrize(("count", "seconds"), [(None, None), (3, 3.0)])
def test_a_plan_has_one_length(count, seconds):
    with pytest.raises(ValueError, match="exactly one"):
        Plan(steps=count, seconds=seconds, warmup_steps=0, final_fraction=0.0)
