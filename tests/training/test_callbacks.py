"""Code of one's own beside the loop: what it sees, how it stops a training, and that it changes nothing else."""

import json
import os
import socket
import subprocess
import sys
import traceback
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from isosphere.errors import RunError, UsageError
from isosphere.runs import RunFolder, read_metrics
from isosphere.training import Callback, Progress
from isosphere.training._callbacks import Callbacks


class Watch(Callback):
    """Keeps what it is shown, draws random numbers, and stops after a step or an epoch."""

    def __init__(self, *, step=None, epoch=None):
        self.steps, self.epochs = [], []
        self.last = step, epoch

    def on_step(self, progress):
        self.steps.append(progress)
        torch.rand(3)
        return progress.step == self.last[0]

    def on_epoch(self, progress):
        self.epochs.append(progress)
        return progress.epoch == self.last[1]


class Broken(Callback):
    def __init__(self, moment, at, error):
        self.moment, self.at, self.error = moment, at, error

    def on_step(self, progress):
        if self.moment == "step" and progress.step == self.at:
            raise self.error

    def on_epoch(self, progress):
        if self.moment == "epoch" and progress.epoch == self.at:
            raise self.error


def test_losses_and_metrics_are_seen_and_nothing_is_changed(bench, equal_bits, rows_of):
    watch = Watch()
    watched = bench.run("watched", callbacks=[watch], config=bench.config(log_steps=50))
    alone = bench.run("alone", config=bench.config(log_steps=50))
    assert equal_bits(watched.method, alone.method)
    assert rows_of(watched.folder) == rows_of(alone.folder)
    assert [seen.step for seen in watch.steps] == list(range(1, 16))
    assert [seen.epoch for seen in watch.epochs] == [1, 2, 3]
    assert [seen.images for seen in watch.epochs] == [40, 80, 120]
    assert [seen.fraction for seen in watch.epochs] == pytest.approx([1 / 3, 2 / 3, 1])
    assert 0 < watch.steps[0].seconds <= watch.steps[-1].seconds
    rows = read_metrics(watched.folder.metrics)
    for row, seen in zip(rows, watch.epochs, strict=True):
        own = watch.steps[5 * seen.epoch - 5 : 5 * seen.epoch]
        assert seen.losses.keys() == {"total", "invariance", "regulariser"}
        assert sum(step.losses["total"] for step in own) / 5 == pytest.approx(seen.losses["total"])
        assert float(row["total"]) == pytest.approx(seen.losses["total"], rel=1e-6)
        assert float(row["cosine"]) == pytest.approx(seen.metrics["cosine"], rel=1e-6)
    assert watch.steps[0].metrics == {}
    assert watch.steps[5].metrics == watch.epochs[0].metrics


def test_figures_of_the_probe_are_seen(bench):
    watch = Watch()
    bench.run("run", callbacks=[watch], probe=lambda method: {"knn": 0.25}, config=bench.config(knn_epochs=1))
    assert watch.epochs[0].metrics["knn"] == 0.25


def test_progress_cannot_be_changed():
    progress = Progress(1, 0, 8, 0.1, 0.5, {}, {})
    with pytest.raises(FrozenInstanceError):
        progress.step = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("stop", "steps"), [({"step": 4}, 4), ({"step": 5}, 5), ({"step": 6}, 6), ({"epoch": 2}, 10)]
)
def test_a_training_that_is_stopped_is_saved_and_goes_on(bench, equal_bits, rows_of, stop, steps):
    """Within an epoch, at its last step, at its end."""
    whole = bench.run("whole")
    stopped = bench.run("stopped", callbacks=[Callback(), Watch(**stop), Callback()])
    assert (stopped.summary.stopped_by, stopped.summary.interrupted) == ("a callback", None)
    assert stopped.summary.steps == steps
    content = torch.load(stopped.folder.checkpoint, weights_only=True)
    assert content["position"]["step"] == steps
    assert stopped.folder.encoder.exists()
    resumed = bench.run("stopped")
    assert resumed.summary.stopped_by is None
    assert equal_bits(resumed.method, whole.method)
    assert rows_of(resumed.folder) == rows_of(whole.folder)


def test_who_stops_at_the_very_end_stops_nothing(bench):
    assert bench.run("a", callbacks=[Watch(step=15)]).summary.stopped_by is None
    assert bench.run("b", callbacks=[Watch(epoch=3)]).summary.stopped_by is None


@pytest.mark.parametrize(("moment", "at"), [("step", 7), ("step", 10), ("epoch", 2)])
@pytest.mark.parametrize(
    ("kind", "words"),
    [(ZeroDivisionError, "mine"), (RunError, "it is not finite"), (torch.OutOfMemoryError, "mine")],
)
def test_an_exception_surfaces_as_it_is_and_the_run_goes_on(
    bench, equal_bits, rows_of, moment, at, kind, words
):
    whole, error = bench.run("whole"), kind(words)
    with pytest.raises(kind) as caught:
        bench.run("broken", callbacks=[Broken(moment, at, error)])
    assert caught.value is error
    assert traceback.extract_tb(error.__traceback__)[-1].name == f"on_{moment}"
    resumed = bench.run("broken")
    assert resumed.summary.steps == 15
    assert equal_bits(resumed.method, whole.method)
    assert rows_of(resumed.folder) == rows_of(whole.folder)


@pytest.mark.parametrize("wrong", [Watch, print])
def test_what_is_no_callback_is_refused(bench, wrong):
    with pytest.raises(UsageError, match="expected instances of a subclass"):
        bench.run("run", callbacks=[wrong])


def test_every_callback_is_called_whatever_another_says():
    first, second = Watch(step=1), Watch()
    together = Callbacks([first, second], torch.device("cpu"))
    assert together.call("on_step", Progress(1, 0, 8, 0.1, 0.5, {}, {}))
    assert len(second.steps) == 1


PROCESS = """
import json, sys
from isosphere.runs import RunFolder
from isosphere.training import Callback, fit, load_config, prepare

class Stop(Callback):
    seen = 0
    def on_step(self, progress):
        self.seen += 1
        return self.rank == 1 and progress.step == 3

data = {"source": sys.argv[1], "image_size": 16, "canvas_size": 16}
train = {"epochs": 2, "batch_size": 8, "precision": "float32", "device": "cpu", "tensorboard": False}
parts = prepare(load_config(base={"data": data, "train": train, "model": {"dim": 8, "hidden": 8}}))
stop = Stop()
stop.rank = parts.fabric.global_rank
given = parts.config, RunFolder(sys.argv[2]), parts.method, parts.loader, parts.views, parts.fabric
done = fit(*given, callbacks=[stop])
print(json.dumps([done.steps, done.stopped_by, stop.seen]))
"""


@pytest.mark.slow
def test_processes_stop_together(tmp_path):
    """The second of two wants to stop after its third step, and both do."""
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    RunFolder.create(tmp_path / "run")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "images.npz"), str(tmp_path / "run")]
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **group, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=200)[0] for process in processes]
    assert [json.loads(text.splitlines()[-1]) for text in said] == [[3, "a callback", 3]] * 2
    content = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["position"]["step"] == 3
