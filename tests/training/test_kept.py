"""Runs of an earlier version, stopped after two epochs of four: they load, and go on as they would have then."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from isosphere.methods import Regulariser
from isosphere.runs import RunFolder, read_metrics
from isosphere.training import _setup as setup
from isosphere.training import build_views, fit, load_method
from isosphere.training._config import parse_config

KEPT = Path(__file__).parent / "kept"


class TinyEncoder(nn.Module):
    feature_dim, mean, std = 10, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    origin = start = None

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 10, 3, 2, bias=False), nn.BatchNorm2d(10), nn.ReLU())

    def forward(self, x):
        return self.layers(x).mean((2, 3))

    def spec(self):
        return {
            "name": "tiny",
            "image_size": 12,
            "in_chans": 3,
            "feature_dim": 10,
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": "bicubic",
        }

    @classmethod
    def from_spec(cls, record, state):
        return cls()


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(setup, "build_encoder", lambda name, **options: TinyEncoder())
    monkeypatch.setattr(setup, "Encoder", TinyEncoder)


@pytest.fixture(params=["kl-vmf", "kl-deep", "byol+mmd", "vje+mmd"])
def kept(request, tmp_path):
    shutil.copytree(KEPT / request.param, tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    return folder, json.loads((folder.path / "expected.json").read_text())


def weight_of(method):
    return next(part.weight for part in method.modules() if isinstance(part, Regulariser)).item()


def test_it_loads(kept):
    folder, expected = kept
    _, method = load_method(folder)
    assert weight_of(method) == expected["weight"]
    with torch.no_grad():
        assert method(2 * [torch.randn(8, 3, 12, 12)]).total.isfinite()


def test_it_goes_on(kept, bench):
    """The weight is the one it had, whatever a rule of now would find."""
    folder, expected = kept
    config = parse_config(folder.read_config())
    _, method = setup.build(config)
    method.prepare(n=16, views=2)
    views = build_views(config, method.encoder)
    fit(config, folder, method, bench.loader(config), views, bench.fabric)
    rows = read_metrics(folder.metrics)
    assert [row["epoch"] for row in rows] == ["3", "4"]
    for row, then in zip(rows, expected["losses"][2:], strict=True):
        for name, value in then.items():
            assert float(row[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
    assert weight_of(method) == expected["weight"]
