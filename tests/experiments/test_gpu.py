"""What waits for a GPU is rehearsed on a CPU, at toy size: it runs to its end, and says that it measured nothing."""

import csv
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import gpu

from experiments.speedrun import __main__ as speedrun
from tests.accelerator.conftest import compiler_missing

ROOT = Path(__file__).parent.parent.parent


def ran(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        capture_output=True, text=True, cwd=ROOT, timeout=280, env=os.environ | environment,
    )  # fmt: skip


def said(*command: object) -> str:
    done = ran(*command, "--toy")
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(compiler_missing(), reason="without a C++ compiler the tests that it runs are skipped")
def test_the_benchmark_of_a_gpu():
    text = said("benchmarks.gpu")
    assert "a CPU, at toy size: no measurement" in text
    for statistic in ("mmd-heat", "ksd-heat", "kl-vmf", "uniformity", "susreg", "sigreg"):
        assert len(re.findall(rf"  {statistic}  .* ms  beside .* times", text)) == 2
    errors = re.findall(r"(?:value|gradient) .*?([\d.e-]+) relative error", text)
    assert len(errors) == 24
    assert max(map(float, errors)) < 1e-4
    assert re.search(r"simclr, resnet18 .* images/s", text)
    assert re.search(r"lejepa, vit_tiny_patch16_224 .* images/s", text)
    assert re.search(r"passed +2 tests", text)


def test_the_speedrun():
    options = ("--epochs", "2", "--every", "1")
    text = said("experiments.speedrun", *options, "--target", ".3")
    assert re.search(r"kl-vmf reached k-NN .* s of training, and .* at toy size: no measurement", text)
    text = said("experiments.speedrun", *options, "--target", ".999")
    assert re.search(r"ended below 0.999 with k-NN .* after 2 epochs", text)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ((5, "no tests ran in 0.1s", ""), "0 passed, .*exit code 5"),
        ((4, "", "broken conftest"), "0 passed, .*exit code 4"),
        ((0, "189 skipped in 0.1s", ""), "0 passed, .*189 skipped"),
        ((1, "1 failed, 188 passed in 9s", ""), "188 passed, 1 failed"),
        ((1, "1 passed, 2 errors in 9s", ""), "1 passed, .*2 error"),
        (None, "did not end within 9 s"),
    ],
)
def test_a_day_with_a_gpu_ends_in_no_green_nothing(outcome, words, monkeypatch, capsys):
    def run(command, **options):
        if outcome is None:
            raise subprocess.TimeoutExpired(command, options["timeout"])
        return subprocess.CompletedProcess(command, *outcome)

    monkeypatch.setattr(gpu.subprocess, "run", run)
    with pytest.raises(gpu.Incomplete, match=words):
        list(gpu.tests(gpu.TOY, "cpu", 9))
    if outcome is not None and outcome[2]:
        assert outcome[2] in capsys.readouterr().out


def test_what_no_time_was_left_for_is_named():
    done = ran("benchmarks.gpu", "--toy", "--minutes", "1e-9")
    assert done.returncode == 1
    for part in ("tests", "statistics", "training, ResNet-18", "training, transformer"):
        assert f"{part}: the rest is left out, 1e-09 minutes are over" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_no_green():
    done = ran("pytest", "-q", "tests/accelerator/test_device.py", ISOSPHERE_ACCELERATOR="cuda")
    assert done.returncode == 4
    assert "ISOSPHERE_ACCELERATOR=cuda: torch" in done.stderr


def test_a_row_of_a_rehearsal_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(speedrun, "RECORDS", tmp_path / "results.csv")
    monkeypatch.setattr(sys, "argv", ["speedrun", "--toy", "--epochs", "1", "--target", "0", "--records"])
    speedrun.main()
    with speedrun.RECORDS.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["device"] == "a CPU, at toy size: no measurement"
    assert (row["data"], row["batch_size"]) == (speedrun.TOY, "40")
    assert row["machine"].startswith(os.uname().machine)


def test_ctrl_c_leaves_no_row(tmp_path, monkeypatch):
    monkeypatch.setattr(speedrun, "RECORDS", tmp_path / "results.csv")
    monkeypatch.setattr(sys, "argv", ["speedrun", "--toy", "--epochs", "50", "--records", "--every", "1"])
    monkeypatch.setattr(speedrun.Until, "on_epoch", lambda self, _: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(SystemExit) as stopped:
        speedrun.main()
    assert stopped.value.code == 130
    assert not speedrun.RECORDS.exists()


def arrays(path: Path, *names: str) -> str:
    images, labels = np.zeros((20, 32, 32, 3), np.uint8), np.arange(20) % 2
    np.savez(path, **{name: images if name[0] == "x" else labels for name in names})
    return str(path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("x_train", "y_train"), "without test part"),
        (("x_train", "x_test"), "without labels"),
        (("x_train", "y_train", "x_test"), "without labels of the test part"),
        ((), "absent.npz"),
    ],
)
def test_what_cannot_vote_is_refused_in_words(names, words, tmp_path, monkeypatch):
    given = arrays(tmp_path / "a.npz", *names) if names else str(tmp_path / "absent.npz")
    monkeypatch.setattr(sys, "argv", ["speedrun", given])
    with pytest.raises(SystemExit, match=words):
        speedrun.main()


@pytest.mark.parametrize(
    ("command", "given", "words"),
    [
        (gpu, "--minutes nan", "got nan, expected a number above zero"),
        (gpu, "--minutes soon", "got soon, expected a number above zero"),
        (gpu, "--data nothere.npz", "No such file .*expected an .npz with x_train"),
        (gpu, "--data {other}", "x_train is float64 .*expected an .npz with x_train"),
        (speedrun, "--every 0", "got 0, expected a whole number above zero"),
        (speedrun, "--epochs 0", "got 0, expected a whole number above zero"),
        (speedrun, "--target nan", "got nan, expected a number of 0 to 1"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_begins(
    command, given, words, tmp_path, monkeypatch, capsys
):
    other = tmp_path / "other.npz"
    np.savez(other, x_train=np.zeros((2, 32, 32, 3)))
    monkeypatch.setattr(sys, "argv", ["it", "--toy", *given.format(other=other).split()])
    with pytest.raises(SystemExit) as refused:
        command.main()
    assert refused.value.code == 2
    assert re.search(words, capsys.readouterr().err)
