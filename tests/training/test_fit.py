"""The loop: what it learns, writes, survives and leaves alone."""

import math
import os
import re
import signal
import socket
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from isosphere.data import Loader
from isosphere.errors import RunError
from isosphere.runs import read_metrics
from isosphere.training import Config, SilentReporter
from isosphere.training._config import TrainConfig
from isosphere.training._gradient import check_micro_batch
from isosphere.training._interrupt import failure_in_words


class Stopper(SilentReporter):
    """Sends a signal to this very process after a number of steps, as a person at the keyboard would."""

    def __init__(self, after, number=signal.SIGINT):
        self.left, self.number, self.said = after, number, []

    def say(self, text, *, warning=False):
        self.said.append(text)

    def step(self, progress, line):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


class Killed(BaseException):
    """What no handler in the loop may catch, as SIGKILL."""


class Killer(SilentReporter):
    def __init__(self, after):
        self.left = after

    def step(self, progress, line):
        self.left -= 1
        if self.left == 0:
            raise Killed


class Slow(SilentReporter):
    """Keeps the clock, by which each step takes two seconds, and what is said."""

    def __init__(self):
        self.now, self.said = 0.0, []

    def perf_counter(self):
        return self.now

    def say(self, text, *, warning=False):
        self.said.append(text)

    def step(self, progress, line):
        self.now += 2.0


@pytest.mark.parametrize(
    ("epochs", "said"), [(12, ["About 1 min 40 s for the other 50 steps, by the first 10."]), (2, [])]
)
def test_how_long_it_takes_is_said_after_the_first_steps_where_it_is_long(bench, monkeypatch, epochs, said):
    ui = Slow()
    monkeypatch.setattr("isosphere.training._state.time", ui)
    bench.run("run", config=bench.config(epochs=epochs), ui=ui)  # of 5 steps
    assert [text for text in ui.said if "first 10" in text] == said


def test_the_loss_falls_and_the_folder_is_whole(bench):
    config = bench.config(epochs=12).replace(optim={"learning_rate": 1e-2})
    done = bench.run("run", config=config)
    rows = read_metrics(done.folder.metrics)
    assert float(rows[-1]["total"]) < 0.85 * float(rows[0]["total"])
    assert done.summary.steps == 60
    assert done.summary.epochs == 12
    assert done.summary.images == 480
    assert done.summary.interrupted is None
    assert done.folder.checkpoint.exists()
    state, spec = done.folder.read_encoder()
    assert spec["seed"] == 3
    assert spec["step"] == 60
    assert all(torch.equal(v, done.method.encoder.state_dict()[k]) for k, v in state.items())
    assert set(done.folder.read_method()) == {"head.weight", "head.bias", "turned"}


def test_rows_are_means_over_their_steps(bench, tiny):
    """Steps 2 and 4 by period, 5 by the end of the epoch; against the values that the method gave."""
    given = []

    class Spy(tiny):
        def forward(self, views):
            loss = super().forward(views)
            given.append(loss.total.item())
            return loss

    done = bench.run("run", config=bench.config(epochs=1), method=Spy())
    rows = read_metrics(done.folder.metrics)
    assert [row["step"] for row in rows] == ["2", "4", "5"]
    expected = [sum(given[0:2]) / 2, sum(given[2:4]) / 2, given[4]]
    assert [float(row["total"]) for row in rows] == pytest.approx(expected, rel=1e-6)
    assert [row["epoch"] for row in rows] == ["0", "0", "1"]
    assert rows[0]["cosine"] == ""
    assert -1 <= float(rows[2]["cosine"]) <= 1


def test_learning_rate_follows_the_plan(bench):
    done = bench.run("run", config=bench.config(epochs=2, log_steps=1))
    rates = [float(row["learning_rate"]) for row in read_metrics(done.folder.metrics)]
    warmup = 2  # half an epoch of five batches, rounded
    expected = [
        1e-3 * min(1, (k + 1) / warmup) * (1e-3 + (1 - 1e-3) * (1 + math.cos(math.pi * k / 10)) / 2)
        for k in range(10)
    ]
    assert rates == pytest.approx(expected, rel=1e-5)


def test_two_runs_of_one_seed_are_one(bench, equal_bits, rows_of):
    a, b = bench.run("a"), bench.run("b")
    assert equal_bits(a.method, b.method)
    assert rows_of(a.folder) == rows_of(b.folder)


def test_another_seed_is_another_run(bench, equal_bits):
    assert not equal_bits(bench.run("a").method, bench.run("b", config=bench.config(seed=4)).method)


@pytest.mark.parametrize("after", [1, 4, 5, 7])
def test_interrupted_and_resumed_equals_never_stopped(bench, equal_bits, after, rows_of):
    """In the middle of an epoch, just before its end and at it; twice, the second time by SIGTERM."""
    whole = bench.run("whole")
    first = Stopper(after)
    broken = bench.run("broken", ui=first)
    assert broken.summary.interrupted == "Ctrl-C"
    assert broken.summary.steps == after
    torch.manual_seed(99)  # a new process would not have the old generators
    second = Stopper(3, signal.SIGTERM)
    broken = bench.run("broken", ui=second)
    assert broken.summary.interrupted == "SIGTERM"
    assert f"Resuming after step {after}:" in second.said[0]
    resumed = bench.run("broken")
    assert resumed.summary.steps == whole.summary.steps == 15
    assert equal_bits(resumed.method, whole.method)
    assert rows_of(resumed.folder) == rows_of(whole.folder)


@pytest.mark.parametrize("after", [3, 6, 10, 12])
def test_killed_and_resumed_equals_never_stopped(bench, equal_bits, after, rows_of):
    """A kill loses what was done since the last checkpoint, and nothing else."""
    whole = bench.run("whole")
    with pytest.raises(Killed):
        bench.run("broken", ui=Killer(after))
    resumed = bench.run("broken")
    assert equal_bits(resumed.method, whole.method)
    assert rows_of(resumed.folder) == rows_of(whole.folder)


@pytest.mark.parametrize("after", [2, 7])
def test_an_exception_of_the_images_surfaces_as_it_is_and_the_run_goes_on(bench, equal_bits, rows_of, after):
    class Failing(Loader):
        left = after

        def epoch(self, *args, **kwargs):
            for batch in super().epoch(*args, **kwargs):
                if (left := self.left) == 0:
                    raise KeyError("a picture of mine")
                self.left = left - 1
                yield batch

    whole = bench.run("whole")
    with pytest.raises(KeyError, match="a picture of mine"):
        bench.run("broken", loader=Failing(bench.images, batch_size=8, seed=3))
    resumed = bench.run("broken")
    assert equal_bits(resumed.method, whole.method)
    assert rows_of(resumed.folder) == rows_of(whole.folder)


@pytest.mark.parametrize("name", ["lars", "sgd"])
def test_the_other_optimisers_resume_too(bench, equal_bits, name):
    config = bench.config().replace(optim={"name": name, "learning_rate": 0.1})
    whole = bench.run("whole", config=config)
    with pytest.raises(Killed):
        bench.run("broken", config=config, ui=Killer(7))
    resumed = bench.run("broken", config=config)
    assert equal_bits(resumed.method, whole.method)
    assert not equal_bits(whole.method, bench.run("adamw").method)


def test_another_optimiser_cannot_continue_a_checkpoint(bench):
    bench.run("run", config=bench.config(epochs=1))
    with pytest.raises(RunError, match=r"not the state of SGD: give the optim\.name"):
        bench.run("run", config=bench.config().replace(optim={"name": "sgd"}))


def test_signal_handlers_are_put_back(bench):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    bench.run("run", ui=Stopper(2))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_finished_run_is_not_trained_further(bench, equal_bits, rows_of):
    done = bench.run("run")
    again = bench.run("run")
    assert again.summary.steps == done.summary.steps
    assert equal_bits(again.method, done.method)
    assert rows_of(again.folder) == rows_of(done.folder)


def test_more_epochs_go_on_from_the_checkpoint(bench):
    bench.run("run", config=bench.config(epochs=1))
    longer = bench.run("run", config=bench.config(epochs=2))
    assert longer.summary.steps == 10


def test_zero_epochs_leave_the_untrained_encoder(bench, tiny, equal_bits):
    done = bench.run("run", config=bench.config(epochs=0))
    torch.manual_seed(3)
    assert equal_bits(done.method, tiny())
    assert done.summary.steps == 0
    assert done.folder.encoder.exists()
    assert read_metrics(done.folder.metrics) == []


def test_monitor_and_probe_change_nothing(bench, equal_bits):
    """Both draw from the global generators here as hard as they can; the trained bits stay the same."""

    def probe(method):
        torch.rand(1000)
        assert not method.training
        return {"knn": torch.rand(()).item()}

    watched = bench.run("watched", probe=probe, config=bench.config(knn_epochs=1))
    alone = bench.run("alone", config=bench.config(monitor=False))
    assert equal_bits(watched.method, alone.method)
    assert watched.method.training
    rows = read_metrics(watched.folder.metrics)
    assert [bool(row["knn"]) for row in rows if row["cosine"]] == [True, True, True]
    assert "cosine" not in read_metrics(alone.folder.metrics)[0]


def test_the_probe_is_called_at_its_period_and_at_the_end(bench):
    calls = []
    bench.run("run", probe=lambda method: calls.append(1) or {}, config=bench.config(epochs=5, knn_epochs=2))
    assert len(calls) == 3
    bench.run("timed", probe=lambda method: calls.append(1) or {}, config=bench.config(minutes=0.2 / 60))
    assert len(calls) == 4


def test_the_line_shows_what_a_person_looks_for(bench):
    lines = []

    class Screen(SilentReporter):
        def step(self, progress, line):
            lines.append(line)

    config = bench.config(epochs=4, knn_epochs=1)
    bench.run("run", probe=lambda method: {"knn": 0.25}, ui=Screen(), config=config)
    assert "k-NN" not in lines[0]
    for word in (
        "epoch 4/4",
        " left",
        "images/s",
        "data wait ",
        "%",
        "loss ",
        "k-NN 25.0%",
        "cosine ",
    ):
        assert word in lines[-1], lines[-1]


def test_weights_and_biases_gets_the_same_rows_where_a_project_is_named(bench, monkeypatch):
    sent, opened = [], {}

    class Client:
        def log(self, values, step):
            sent.append((step, values["total"]))

        def finish(self):
            sent.append("finished")

    def init(**given):
        opened.update(given)
        return Client()

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    done = bench.run("run", config=bench.config(epochs=1, wandb="project"))
    assert (opened["project"], opened["name"], opened["resume"]) == ("project", "run", "allow")
    rows = [(int(row["step"]), float(row["total"])) for row in read_metrics(done.folder.metrics)]
    assert sent.pop() == "finished"
    assert [step for step, _ in sent] == [step for step, _ in rows]
    assert [total for _, total in sent] == pytest.approx([total for _, total in rows], rel=1e-6)
    first = opened["id"]
    bench.run("run", config=bench.config(epochs=2, wandb="project"))
    assert opened["id"] == first, "a run that is resumed goes on there"
    bench.run("other/run", config=bench.config(epochs=1, wandb="project"))
    assert opened["id"] != first, "a folder of the same name is another run"


def test_nan_stops_with_step_and_parts_and_keeps_the_last_good_checkpoint(bench, tiny, equal_bits):
    good = bench.run("good", config=bench.config(epochs=1))
    method = tiny()
    method.break_at = 8
    with pytest.raises(RunError) as caught:
        bench.run("bad", method=method)
    message = str(caught.value)
    assert "not finite at step 8 (epoch 2)" in message
    assert "regulariser nan" in message
    assert "invariance nan" not in message
    assert "last.ckpt, is kept" in message
    assert 'a lower optim={"learning_rate": ' in message
    content = torch.load(bench.path / "bad" / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["position"]["step"] == 5
    assert all(torch.isfinite(v).all() for v in content["method"].values())
    assert good.folder.checkpoint.exists()


def test_nan_before_the_first_checkpoint_says_so(bench, tiny):
    method = tiny()
    method.break_at = 1
    with pytest.raises(RunError, match="No checkpoint had been written yet"):
        bench.run("bad", method=method)


def test_infinite_weights_are_never_saved(bench, tiny):
    class Exploding(tiny):
        def after_step(self, progress):
            super().after_step(progress)
            if self.steps == 10:
                self.head.weight.data[0, 0] = float("inf")

    with pytest.raises(RunError, match=r"weights are not finite \(head\.weight\)\. The last good"):
        bench.run("bad", method=Exploding())
    content = torch.load(bench.path / "bad" / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["position"]["step"] == 5


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
    ids=["gpu", "cublas", "cpu", "python"],
)
def test_memory_that_does_not_suffice_is_said_in_words(bench, tiny, error):
    class Hungry(tiny):
        def forward(self, views):
            if self.steps == 7:
                raise error
            return super().forward(views)

    with pytest.raises(RunError, match=r"or a smaller batch_size\. The last good checkpoint"):
        bench.run("run", method=Hungry())


@pytest.mark.parametrize(
    ("settings", "ranks", "advice"),
    [
        ({"batch_size": 48}, 1, r'train=\{"micro_batch": 24\} or a smaller batch_size'),
        ({"batch_size": 48}, 16, r'train=\{"micro_batch": 16\} or a smaller batch_size'),
        ({"batch_size": 45, "micro_batch": 9}, 1, r'train=\{"micro_batch": 5\} or'),
        ({"batch_size": 7}, 1, "start anew with a smaller batch_size"),
    ],
)
def test_what_is_advised_when_memory_has_run_out_can_be_done(settings, ranks, advice, tmp_path):
    config = Config(train=TrainConfig(**settings))
    place = SimpleNamespace(world_size=ranks)
    said = failure_in_words(torch.OutOfMemoryError("CUDA out of memory"), tmp_path / "none", config, place)
    assert said is not None
    assert re.search(advice, said)
    if found := re.search(r'micro_batch": (\d+)', said):
        check_micro_batch(settings["batch_size"], int(found[1]), ranks)


def test_minutes_stop_in_time_and_anneal_over_just_that_time(bench):
    class Slow(SilentReporter):
        def step(self, progress, line):
            time.sleep(0.02)

    start = time.perf_counter()
    done = bench.run("run", config=bench.config(minutes=1.2 / 60, log_steps=1), ui=Slow())
    assert 0.8 < done.summary.seconds < 1.6
    assert time.perf_counter() - start < 5
    rates = [float(row["learning_rate"]) for row in read_metrics(done.folder.metrics)]
    assert rates[-1] < 0.05 * max(rates)
    assert max(rates) > 0.9e-3
    assert done.summary.interrupted is None


def test_minutes_are_counted_over_all_resumptions(bench):
    config = bench.config(minutes=0.5 / 60)
    bench.run("run", config=config)
    start = time.perf_counter()
    again = bench.run("run", config=config)
    assert time.perf_counter() - start < 0.4
    assert again.summary.seconds >= 0.4


def test_other_data_cannot_continue_a_checkpoint(bench):
    bench.run("run", config=bench.config(epochs=1), facts={"images": 40})
    with pytest.raises(RunError, match=r"made with images = 40, and now it is 41"):
        bench.run("run", facts={"images": 41})


def test_another_network_cannot_continue_a_checkpoint(bench, tiny):
    bench.run("run", config=bench.config(epochs=1))
    other = tiny()
    other.head = torch.nn.Linear(8, 5)
    with pytest.raises(RunError, match="does not fit this network"):
        bench.run("run", method=other)


def test_a_damaged_checkpoint_is_named(bench):
    done = bench.run("run", config=bench.config(epochs=1))
    done.folder.checkpoint.write_bytes(done.folder.checkpoint.read_bytes()[:500])
    with pytest.raises(RunError, match=r"last\.ckpt cannot be read"):
        bench.run("run")


def test_clipping_bounds_the_gradient(bench, tiny):
    norms = []

    class Spy(tiny):
        def after_step(self, progress):
            super().after_step(progress)

    config = bench.config(epochs=1).replace(optim={"clip": 1e-3})
    method = Spy()
    step = torch.optim.AdamW.step

    def spied(self, *args, **kwargs):
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(torch.stack([g.norm() for g in gradients]).norm().item())
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", spied)
        bench.run("clipped", config=config, method=method)
        clipped, norms[:] = list(norms), []
        bench.run("free", config=bench.config(epochs=1))
    assert max(clipped) <= 1e-3 * 1.001
    assert max(norms) > 1e-2


def test_profile_shares_add_up(bench):
    done = bench.run("run", config=bench.config(profile=True))
    shares = done.summary.shares
    assert shares is not None
    assert set(shares) == {"views", "network", "loss", "optimiser", "other"}
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-6)
    assert all(share > 0 for share in shares.values())
    assert done.summary.waits == 0  # a CPU is never waited for
    assert done.summary.launches is not None
    assert list(done.summary.launches) == ["views", "forward", "loss", "backward", "optimiser"]
    assert all(count > 0 for count in done.summary.launches.values())
    assert bench.run("plain").summary.launches is None


def test_deterministic_is_of_the_training_alone(bench, tiny):
    def now() -> tuple[object, ...]:
        cudnn, workspace = torch.backends.cudnn, os.environ.get("CUBLAS_WORKSPACE_CONFIG")
        return torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark, workspace

    seen, before = [], now()

    class Spy(tiny):
        def forward(self, views):
            seen.append(now())
            return super().forward(views)

    bench.run("run", config=bench.config(deterministic=True), method=Spy())
    assert set(seen) == {(True, True, False, ":4096:8")}
    assert now() == before
    bench.run("free", config=bench.config(), method=Spy())
    assert seen[-1] == before


def test_an_operator_without_a_deterministic_algorithm_ends_the_training_in_words(bench, tiny):
    class Putting(tiny):
        def forward(self, views):
            torch.zeros(2).put_(torch.tensor([0, 0]), torch.ones(2))
            return super().forward(views)

    bench.run("free", method=Putting())
    with pytest.raises(
        RunError, match=r"put_ has no deterministic algorithm on this device \(cpu\): leave out"
    ):
        bench.run("strict", config=bench.config(deterministic=True), method=Putting())
    assert not torch.are_deterministic_algorithms_enabled()


def test_products_before_a_deterministic_training_are_told_what_to_set(bench, tiny):
    class Used(tiny):
        def forward(self, views):
            # As PyTorch says it on a GPU.
            raise RuntimeError(
                "Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` or ..., but "
                "this operation is not deterministic because it uses CuBLAS and you have CUDA >= 10.2. To enable "
                "deterministic behavior in this case, you must set an environment variable before running your PyTorch "
                "application: CUBLAS_WORKSPACE_CONFIG=:4096:8 or CUBLAS_WORKSPACE_CONFIG=:16:8."
            )

    with pytest.raises(RunError, match=r"set CUBLAS_WORKSPACE_CONFIG=:4096:8 before the program starts"):
        bench.run("strict", config=bench.config(deterministic=True), method=Used())


def test_tensorboard_events_hold_the_same_figures(bench):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    done = bench.run("run", config=bench.config(tensorboard=True))
    (file,) = done.folder.path.glob("events.*")
    assert file.name.split(".")[4] == "host", "a run is handed on: no name of a machine"
    assert socket.gethostname().encode() not in file.read_bytes() or len(socket.gethostname()) < 5
    events = accumulator.EventAccumulator(str(done.folder.path))
    events.Reload()
    written = {event.step: event.value for event in events.Scalars("total")}
    rows = read_metrics(done.folder.metrics)
    assert written == pytest.approx({int(row["step"]): float(row["total"]) for row in rows}, rel=1e-6)
