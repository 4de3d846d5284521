"""Options that a method chooses are written down; a run that does not name them is of an earlier version."""

import pytest
import torch
import yaml
from torch import nn

import isosphere
from isosphere.methods import build_method
from isosphere.models import build_encoder
from isosphere.runs import RunFolder
from isosphere.training import load_method, untrained

SET = {
    **{"data.limit": 64, "train.batch_size": 16, "model.hidden": 16, "train.tensorboard": False},
    **{"train.knn_epochs": 0, "train.monitor": False},
}
EARLIER, NOW = {"byol": {"standardise": False}}, {"byol": {"standardise": True}}


def norms(method):
    return sum(isinstance(part, nn.BatchNorm1d) for part in method.modules())


@pytest.mark.parametrize("name", EARLIER)
def test_a_run_that_does_not_name_them_goes_on_as_it_was(name, tmp_path):
    out, settings = tmp_path / "run", SET | {f"method.options.{k}": v for k, v in EARLIER[name].items()}
    begun = isosphere.train("digits", out, method=name, epochs=1, set=settings, progress=False)
    assert begun.config.method.options == EARLIER[name]
    folder = RunFolder.open(out)
    written = folder.read_config()
    written["method"]["options"] = {}
    (out / "config.yaml").write_text(yaml.safe_dump(written))
    config, method = load_method(folder)
    assert config.method.options == {}  # what is kept of it, features and figures, stays its own
    assert method.chosen == EARLIER[name]
    assert norms(untrained(config)) == norms(method)
    images = torch.rand(4, 3, 16, 16)
    torch.testing.assert_close(method.embed(images), begun.method.embed(images))
    again = isosphere.train("digits", out, epochs=2, resume=True, progress=False)
    assert again.method.chosen == EARLIER[name]
    assert again.config.method.options == EARLIER[name]


@pytest.mark.parametrize("name", NOW)
def test_a_new_run_writes_them_down(name, tmp_path):
    run = isosphere.train("digits", tmp_path / "run", method=name, epochs=0, set=SET, progress=False)
    assert run.config.method.options == NOW[name] == run.method.chosen


@pytest.mark.parametrize("name", ["byol-uniformity", "byol-mhe", "byol+contrastive"])
def test_with_something_that_spreads_they_are_those_of_before(name):
    method = build_method(name, build_encoder("small-conv", image_size=16))
    assert method.chosen == EARLIER["byol"]
