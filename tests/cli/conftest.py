"""Commands as a user types them, in this process, on images that are small enough to be quick."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from isosphere.cli import main
from isosphere.evaluation import TaskResult, read_results
from isosphere.runs import RunFolder


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def figures() -> Callable[..., dict[str, TaskResult]]:
    """What the evaluation of a run has found, by task."""
    return lambda name="r": read_results(RunFolder(name))


@pytest.fixture
def check_estimates() -> Callable[[TaskResult], None]:
    """Every figure lies within its interval, or is not a number."""

    def check(result: TaskResult) -> None:
        assert result.figures
        for figure in result.figures:
            low, high = figure.estimate.low, figure.estimate.high
            assert math.isnan(figure.value) or low <= figure.value <= high, figure

    return check


@pytest.fixture
def run(capsys, monkeypatch, tmp_path) -> Callable[..., Outcome]:
    """``run("train", DATA, ...)`` in an empty working folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("ISOSPHERE_CACHE", str(tmp_path / "cache"))

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return run


def paint(path: Path, shade: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 120, (16, 16, 3)) + np.array([shade, 60, 130 - shade])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def classes(tmp_path_factory) -> Path:
    """Two classes of 30 images that differ in colour, in folders, without a split."""
    folder = tmp_path_factory.mktemp("classes")
    for i in range(60):
        paint(folder / ("red" if i % 2 else "blue") / f"{i}.png", 120 if i % 2 else 10, i)
    return folder


@pytest.fixture(scope="session")
def split(tmp_path_factory) -> Path:
    """The same with train/ and val/."""
    folder = tmp_path_factory.mktemp("split")
    for i in range(40):
        part = "val" if i % 4 == 0 else "train"
        paint(folder / part / ("red" if i % 8 < 4 else "blue") / f"{i}.png", 120 if i % 8 < 4 else 10, i)
    return folder


QUICK = (
    "--epochs=1",
    "--batch-size=8",
    "--set=model.dim=16",
    "--set=model.hidden=16",
    "--set=train.tensorboard=false",
    "--set=train.precision=float32",
    "--set=train.device=cpu",
)


@pytest.fixture
def quick() -> tuple[str, ...]:
    return QUICK
