"""Whether a training has gained anything over the network that it started from, and what is said if not."""

import math

import pytest
import torch

import isosphere
from isosphere.errors import for_a_shell
from isosphere.methods import BYOL
from isosphere.runs import RunFolder
from isosphere.training import ConsoleReporter, load_config
from isosphere.workflows import prepare_training
from isosphere.workflows._gain import Gain, gain_over_start


def test_a_gain_is_of_pairs():
    start, end = torch.tensor([1.0, 0, 0, 0, 1, 0]), torch.tensor([1.0, 1, 0, 1, 1, 1])
    found = Gain.of("k-NN accuracy", start, end)
    assert (found.start, found.end) == (pytest.approx(1 / 3), pytest.approx(5 / 6))
    differences = [0, 1, 0, 1, 0, 1]
    deviation = math.sqrt(sum((d - 0.5) ** 2 for d in differences) / 5)
    assert found.error == pytest.approx(deviation / math.sqrt(6))
    assert found.clear == (2 * found.error < 0.5)
    worse = Gain.of("k-NN accuracy", end.repeat(50), start.repeat(50))
    assert not worse.clear
    assert "33.3 %, below the 83.3 % of the untrained network" in str(worse)
    assert "not clearly above" in str(Gain.of("k-NN accuracy", start, start))


def trained(tmp_path, monkeypatch, method, **more):
    monkeypatch.setattr(BYOL, "least_steps", property(lambda self: 0 if len(self.terms) else 1))
    settings = {
        **{"data.source": "digits", "data.limit": 160, "train.batch_size": 16, "train.epochs": 10},
        **{"method.name": method, "model.hidden": 32, "model.dim": 16, "train.tensorboard": False},
    }
    training = prepare_training(load_config(flags=settings | more), RunFolder(tmp_path / "run"))
    with training.started():
        from rich.console import Console

        summary = training.run(ConsoleReporter(Console(quiet=True)))
    return training, summary


@pytest.mark.parametrize("labelled", [True, False])
def test_a_predictor_that_has_gained_nothing_is_not_worth_judging(tmp_path, monkeypatch, labelled):
    more = {} if labelled else {"train.knn_epochs": 0}
    wild = {"optim.learning_rate": 3.0, "optim.warmup_epochs": 0}
    training, summary = trained(tmp_path, monkeypatch, "byol", **wild, **more)
    assert not training.is_worth_judging(summary)
    warning = training.closing(summary)[-1]
    assert warning[1]
    assert ("k-NN accuracy" if labelled else "two-view Recall@1") in warning[0]
    assert "of the untrained network" in warning[0]
    assert "byol-uniformity" in warning[0]
    assert "epochs=100" in warning[0]
    with for_a_shell():
        assert "--epochs 100" in training.closing(summary)[-1][0]


def test_the_end_is_compared_with_the_untrained_network_of_the_seed(tmp_path, monkeypatch):
    training, _ = trained(tmp_path, monkeypatch, "byol")
    probe = training._probe
    found = gain_over_start(training.parts, probe.right)
    begun = isosphere.train("digits", dry_run=True, config=training.config, progress=False).method
    assert found.start == pytest.approx(probe(begun)["knn"])
    assert found.end == pytest.approx(probe(training.parts.method.eval())["knn"])


def test_a_method_that_spreads_is_not_asked(tmp_path, monkeypatch):
    training, summary = trained(tmp_path, monkeypatch, "byol-uniformity")
    assert training._gain is None
    assert training.is_worth_judging(summary)
