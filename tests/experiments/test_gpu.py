"""What waits for a GPU is rehearsed on a CPU, at toy size: it runs to its end, and says that it measured nothing."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def said(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command, "--toy"], capture_output=True, text=True, cwd=ROOT, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


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
    assert re.search(r"passed|skipped", text)
    assert not re.search(r"\bfailed\b", text)


def test_the_speedrun():
    options = ("--epochs", "2", "--every", "1")
    text = said("experiments.speedrun", *options, "--target", ".3")
    assert re.search(r"kl-vmf reached k-NN .* s of training, and .* at toy size: no measurement", text)
    text = said("experiments.speedrun", *options, "--target", "1.1")
    assert re.search(r"ended below 1.1 with k-NN .* after 2 epochs", text)
