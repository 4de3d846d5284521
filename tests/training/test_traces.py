"""A training leaves the process as it found it: twice in a row, in a thread, after an exception."""

import logging
import os
import random
import signal
import threading
import warnings

import numpy as np
import pytest
import torch

from isosphere.errors import RunError
from isosphere.training import Callback, build, load_config, make_fabric
from isosphere.training._generators import drawing


def state_of_the_process():
    """Everything of the process that a training might change."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002
        "python": random.getstate(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "backends": (
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.get_float32_matmul_precision(),
        ),
        "anomalies": torch.is_anomaly_enabled(),
        "logging": [
            logging.getLogger(name).level
            for name in ("", "lightning", "lightning.fabric", "lightning.pytorch", "torch")
        ],
        "warnings": list(warnings.filters),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "environment": {name: value for name, value in os.environ.items() if "PYTEST" not in name},
        "processes": torch.distributed.is_initialized(),
        "threads alive": threading.active_count(),
        "folder": os.getcwd(),  # noqa: PTH109
    }


@pytest.fixture
def unchanged():  # named first by the tests, so that it looks before anything of a training is made
    torch.manual_seed(1234)
    before = state_of_the_process()
    yield
    after = state_of_the_process()
    assert [name for name in before if before[name] != after[name]] == []


class Broken(Callback):
    def on_step(self, progress):
        if progress.step == 7:
            raise ZeroDivisionError


def test_twice_in_one_process_is_the_same_run_twice(unchanged, bench, tiny, equal_bits):
    with torch.random.fork_rng([]):
        networks = [tiny() for _ in range(2)]
        networks[1].load_state_dict(networks[0].state_dict())
    bench.fabric = make_fabric("cpu", "float32")
    first = bench.run("first", method=networks[0])
    with torch.random.fork_rng([]):
        torch.rand(100)  # what the caller draws in between is the caller's own
        second = bench.run("second", method=networks[1])
    assert equal_bits(first.method, second.method)


def test_bfloat16_and_micro_batches(unchanged, bench, tiny):
    with torch.random.fork_rng([]):
        network = tiny()
    bench.fabric = make_fabric("cpu", "bf16")
    bench.run("run", method=network, config=bench.config(precision="bf16", micro_batch=4))


def test_after_an_exception(unchanged, bench, tiny):
    with torch.random.fork_rng([]):
        network = tiny()
    with pytest.raises(ZeroDivisionError):
        bench.run("run", method=network, callbacks=[Broken()])


def test_a_resumed_run_keeps_its_generators_to_itself(unchanged, bench, tiny):
    """A checkpoint brings the states of all generators, and they are not the caller's."""
    with torch.random.fork_rng([]):
        network = tiny()
        with pytest.raises(ZeroDivisionError):
            bench.run("run", method=network, callbacks=[Broken()])
    bench.run("run", method=network)


def test_in_a_thread_it_is_the_same_run(unchanged, bench, tiny, equal_bits):
    with torch.random.fork_rng([]):
        networks = [tiny() for _ in range(2)]
        networks[1].load_state_dict(networks[0].state_dict())
    here, done = bench.run("here", method=networks[0]), []
    thread = threading.Thread(target=lambda: done.append(bench.run("there", method=networks[1])))
    thread.start()
    thread.join()
    assert equal_bits(here.method, done[0].method)


class Watching(Callback):
    """At the first step another thread does something; what it raised is kept."""

    def __init__(self, other):
        self.other, self.error = other, None

    def on_step(self, progress):
        if progress.step == 1:
            thread = threading.Thread(target=self.try_it)
            thread.start()
            thread.join(20)
            assert not thread.is_alive()

    def try_it(self):
        try:
            self.other()
        except RunError as error:
            self.error = str(error)


def test_a_second_training_in_another_thread_is_refused(bench, tiny, equal_bits):
    """Both would draw from one stream of random numbers; the first goes on undisturbed."""
    networks = [tiny() for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    alone = bench.run("alone", method=networks[0])
    watch = Watching(lambda: bench.run("second", method=tiny()))
    watched = bench.run("first", method=networks[1], callbacks=[watch])
    assert "another thread of this process is training" in watch.error
    assert equal_bits(alone.method, watched.method)


def test_what_a_training_draws_and_what_builds_a_network_take_turns():
    held, config = [], load_config(None, ["data.image_size=16", "model.encoder=small-conv"])
    with drawing:
        thread = threading.Thread(target=lambda: held.append(build(config)))
        thread.start()
        thread.join(0.2)
        assert held == []
    thread.join(20)
    assert len(held) == 1


def test_a_caller_who_records_no_gradients_can_train(bench, tiny, equal_bits):
    torch.manual_seed(0)
    network = tiny()
    before = network.head.weight.detach().clone()
    with torch.no_grad():
        bench.run("run", method=network)
        assert not torch.is_grad_enabled()
    assert not torch.equal(network.head.weight, before)


def test_measuring_a_step_leaves_no_hook_in_the_network(bench):
    done = bench.run("run", config=bench.config(profile=True))
    for part in done.method.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
