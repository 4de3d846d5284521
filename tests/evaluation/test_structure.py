"""Class structure with intervals: the statistics' values, intervals that contain other samples, degenerate labels."""

import math

import pytest
import torch
from torch.nn import functional

from isosphere.evaluation import class_structure, geometry
from isosphere.statistics import class_angles, fisher_ratio, silhouettes


def classes(n, spread=0.5, count=4, dim=8):
    centres = torch.randn(count, dim, generator=torch.Generator().manual_seed(5))
    y = torch.arange(n) % count
    return centres[y] + spread * torch.randn(n, dim), y


def test_values_are_those_of_the_statistics():
    x, y = classes(200)
    unit = functional.normalize(x, dim=1)
    got = class_structure(3 * x, y)
    assert got["fisher_ratio"].value == pytest.approx(fisher_ratio(unit, y).item())
    angles = class_angles(unit, y)[~torch.eye(4, dtype=torch.bool)]
    assert got["class_angle"].value == pytest.approx(angles.mean().item())
    assert got["class_angle_min"].value == pytest.approx(angles.min().item())
    assert got["silhouette"].value == pytest.approx(silhouettes(unit, y).mean().item())
    assert 0.5 < got["kmeans_nmi"].value <= 1
    for name, estimate in got.items():
        assert estimate.low <= estimate.value <= estimate.high, name
    hidden = torch.cat([y, torch.full((50,), -1)])
    assert class_structure(torch.cat([x, torch.randn(50, 8)]), hidden) == class_structure(x, y)


def test_intervals_hold_other_samples_of_the_size():
    truth = class_structure(*classes(4000))
    inside = dict.fromkeys(truth, 0)
    for _ in range(20):
        for name, estimate in class_structure(*classes(300)).items():
            inside[name] += not estimate.excludes(truth[name].value)
    # 95 % of 20 is 19; the smallest of angles is biased downwards.
    assert all(count >= (14 if name != "class_angle_min" else 10) for name, count in inside.items()), inside


def test_separation_raises_every_figure():
    near, far = class_structure(*classes(400, 1.5)), class_structure(*classes(400, 0.2))
    for name in ("fisher_ratio", "silhouette", "kmeans_nmi"):
        assert far[name].low > near[name].high, name


def test_one_class_collapse_and_too_few():
    x, y = classes(60)
    assert all(math.isnan(estimate.value) for estimate in class_structure(x, y * 0).values())
    collapsed = class_structure(torch.full((60, 8), 0.3), y)
    assert math.isnan(collapsed["fisher_ratio"].value)
    assert collapsed["silhouette"].value == 0
    assert collapsed["kmeans_nmi"].value == 0
    with pytest.raises(ValueError, match="at least 20"):
        class_structure(x[:19], y[:19])


def test_geometry_tells_dimensions_and_directions():
    flat = torch.randn(1500, 4) @ torch.linalg.qr(torch.randn(30, 4)).Q.T
    views = torch.stack([flat, flat + 0.01 * torch.randn(1500, 30)])
    got = geometry(flat, views=views)
    assert got["local_dimension"].value == pytest.approx(3, rel=0.1)  # directions in four dimensions
    assert 2.5 < got["local_dimension"].low < got["local_dimension"].value < got["local_dimension"].high < 3.5
    assert got["lidar"].value == pytest.approx(4, rel=0.1)
    assert got["lidar"].low <= got["lidar"].value <= got["lidar"].high
    collapsed = geometry(torch.full((40, 5), 0.3), views=torch.full((2, 40, 5), 0.3))
    assert math.isnan(collapsed["local_dimension"].value)
    assert collapsed["lidar"].value == 0
