"""The learning rate as a function of how far a run has come."""

import itertools
import math

import pytest

from isosphere.training import Plan, learning_rate_factor
from isosphere.training._schedule import slower_later


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


def test_the_head_has_the_first_steps_alone_and_the_backbone_a_rise_of_its_own():
    plan = steps(head_steps=20)
    assert [plan.head_alone(k, 0.0) for k in (0, 19, 20, 99)] == [True, True, False, False]
    assert [plan.factor(k, 0.0) for k in range(100)] == [steps().factor(k, 0.0) for k in range(100)]
    backbone = [plan.backbone_factor(k, 0.0) for k in range(100)]
    assert backbone[:20] == [0.0] * 20
    assert backbone[20] == pytest.approx(0.1 * plan.factor(20, 0.0))
    assert backbone[29:] == [plan.factor(k, 0.0) for k in range(29, 100)]
    assert [steps().backbone_factor(k, 0.0) for k in (0, 5, 99)] == [
        steps().factor(k, 0.0) for k in (0, 5, 99)
    ]


def test_of_minutes_the_head_has_a_fifth_at_the_most():
    plan = timed(head_steps=1000)
    assert plan.head_alone(3, 9.9)
    assert not plan.head_alone(3, 10.0)
    assert plan.backbone_factor(3, 9.9) == plan.backbone_factor(3, 10.0) == 0.0
    assert plan.backbone_factor(4, 12.5) == pytest.approx(0.5 * plan.factor(100, 12.5))
    assert plan.backbone_factor(4, 20.0) == pytest.approx(plan.factor(100, 20.0))
    soon = timed(head_steps=5)
    assert soon.backbone_factor(5, 0.5) > 0


def test_views_grow_in_thirds_of_steps_or_of_time():
    assert [steps().share_of_side(k, 0.0) for k in (0, 33, 34, 66, 67, 99, 100)] == [
        0.5,
        0.5,
        0.75,
        0.75,
        1,
        1,
        1,
    ]
    assert [timed().share_of_side(0, seconds) for seconds in (0, 16, 17, 34, 60)] == [0.5, 0.5, 0.75, 1, 1]


def test_later_steps_of_growing_views_are_slower_by_their_pixels():
    pixels = [steps().share_of_side(k, 0.0) ** 2 for k in range(100)]
    for step in (0, 20, 50, 90):
        assert slower_later(step / 100) == pytest.approx(
            sum(pixels[step:]) / (100 - step) / pixels[step], rel=0.02
        )
