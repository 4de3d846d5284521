"""Code of one's own within a training."""

import pytest

import isosphere
from isosphere.errors import UsageError
from isosphere.runs import RunFolder
from isosphere.training import Callback

from .conftest import pixels
from .test_train import assert_same_weights


class Seen(Callback):
    def __init__(self, until=None, fault=None):
        self.steps, self.epochs, self.until, self.fault = [], [], until, fault

    def on_step(self, progress):
        self.steps.append(progress)
        if progress.step == self.fault:
            raise ZeroDivisionError("a fault of the callback")
        return progress.step == self.until

    def on_epoch(self, progress):
        self.epochs.append(progress)


def test_they_see_losses_and_metrics_and_change_nothing(folder, tmp_path, quick):
    seen, settings = Seen(), {**quick, "epochs": 2}
    made = isosphere.train(folder, tmp_path / "r", callbacks=[seen], **settings)
    assert [(p.step, p.epoch) for p in seen.epochs] == [(3, 1), (6, 2)]
    assert [p.step for p in seen.steps] == [1, 2, 3, 4, 5, 6]
    assert all("total" in p.losses for p in seen.steps)
    assert "cosine" in seen.epochs[-1].metrics
    assert_same_weights(made, isosphere.train(folder, tmp_path / "alone", **settings))


def test_one_that_stops_gives_a_run_that_can_be_used_and_resumed(folder, tmp_path, quick):
    settings = {**quick, "epochs": 3}
    made = isosphere.train(pixels(), tmp_path / "r", callbacks=Seen(until=4), **settings)
    assert made.folder.read_encoder()[1]["step"] == 4
    assert made.metric is not None
    assert made.embed(pixels(2), layer="wccn").shape == (2, 256)
    assert (
        'Stopped by a callback after 4 steps. Go on with: isosphere.train("DATA"'
        in made.folder.log.read_text()
    )
    resumed = isosphere.train(pixels(), tmp_path / "r", resume=True, progress=False)
    assert_same_weights(resumed, isosphere.train(folder, tmp_path / "whole", **settings))


def test_a_fault_comes_as_it_is_and_the_run_goes_on(folder, tmp_path, quick):
    settings = {**quick, "epochs": 3, "set": {**quick["set"], "train.checkpoint_minutes": 0}}
    with pytest.raises(ZeroDivisionError, match="a fault of the callback") as caught:
        isosphere.train(folder, tmp_path / "r", callbacks=[Seen(fault=5)], **settings)
    assert caught.traceback[-1].name == "on_step"
    assert RunFolder(tmp_path / "r").checkpoint.exists()
    resumed = isosphere.train(folder, tmp_path / "r", resume=True, progress=False)
    assert_same_weights(resumed, isosphere.train(folder, tmp_path / "whole", **settings))


def test_what_is_no_callback_is_refused(folder, tmp_path, quick):
    with pytest.raises(UsageError, match="callbacks: got"):
        isosphere.train(folder, tmp_path / "r", callbacks=[print], **quick)
