"""Every judge on the accelerator, against the CPU: the same figures, wherever the features and labels lie."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import product
from numbers import Number
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import isosphere
from isosphere import Run
from isosphere import evaluation as e
from isosphere.data import as_source
from isosphere.deploy import near_duplicates, pairs_near
from isosphere.devices import host_memory, on_device_or_cpu
from isosphere.discrepancies import build_discrepancy
from isosphere.evaluation._labels import integer_labels
from isosphere.training._storage import memory_room
from tests.accelerator.place import D, counted, launched
from tests.workflows.conftest import pixels

KEPT = Path(__file__).parent.parent / "kept_run"


def clusters(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features ``(n, 12)`` and labels: three classes that overlap, some rows unlabelled."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    centres = torch.randn(3, 12, generator=torch.Generator().manual_seed(9))
    x = centres[labels] + 1.5 * torch.randn(n, 12, generator=generator)
    return x, labels.masked_fill(torch.arange(n) % 11 == 5, -1)


X, Y = clusters(120, 0)
Z, W = clusters(60, 1)
TARGETS = X[:, :2] ** 2

JUDGES = {
    "knn": lambda x, z: e.knn(x, Y, z, W, k=5),
    "knn_predict": lambda x, z: e.knn_predict(x, Y, z, k=5),
    "linear, L-BFGS": lambda x, z: e.linear_predict(x, Y, z, penalties=(1e-1, 1e-2)),
    "linear, SGD": lambda x, z: e.linear_probe(x, Y, z, W, solver="sgd", rates=(0.1, 0.03), epochs=(3,)),
    "linear, more features than rows": lambda x, z: e.linear_probe(x[:9], Y[:9], z, W, penalties=(0.1,)),
    "probe": lambda x, z: e.fit_probe(x, Y, "abc").probabilities(z),
    "held out": lambda x, z: e.held_out_labels(x, Y),
    "ridge": lambda x, z: e.kernel_ridge(x, Y, z, W),
    "ridge, Nystroem": lambda x, z: e.ridge_classify(x, Y, z, exact_up_to=10, landmarks=20),
    "ridge, linear": lambda x, z: e.ridge_regress(x, TARGETS, z, kernel="linear"),
    "knn_regress": lambda x, z: e.r_squared(e.knn_regress(x, TARGETS, z, k=5), Z[:, :2] ** 2),
    "instance retrieval": lambda x, z: e.instance_retrieval(x[:60], z, batch=20),
    "instance neighbours": lambda x, z: e.instance_neighbours(x[:60], z, [1, 30], batch=20),
    "class retrieval": lambda x, z: e.class_retrieval(x, Y),
    "geometry": lambda x, z: e.geometry(
        x, views=torch.stack([x, x + 0.1]), discrepancies={"mmd": build_discrepancy("mmd-heat", 12)}
    ),
    "unlabelled": lambda x, z: e.unlabelled(x, torch.stack([x, x + 0.1]), batch=20),
    "class structure": lambda x, z: e.class_structure(x, Y),
    "OOD": lambda x, z: e.ood(x, x[::2], {"z": z}, train_y=Y, k=5),
    "standardised": lambda x, z: e.standardised(x, z, shrinkage=0.1),
    "pca": lambda x, z: e.pca_whitened(x, z),
    "wccn": lambda x, z: e.WCCN.fit(torch.stack([x[:60], x[60:]]))(z),
    "copies": lambda x, z: e.choose_threshold(
        e.copy_cosines(x[:60], z).cpu(), ["jpeg"] * 60, x, threshold=0.5
    ),
    "selective risk": lambda x, z: e.selective_risk(z[:, 0].abs(), x[:60, 0]),
    "duplicates": lambda x, z: near_duplicates(x, 0.85),
    "duplicates of two sets": lambda x, z: near_duplicates(x, 0.8, sets=torch.arange(120) % 2),
    "pairs": lambda x, z: pairs_near(x, 0.8, 10),
}


ELEMENTWISE = {"selective risk"}
"""Judges without a matrix product: this one's bootstrap runs on the CPU, from two numbers a row."""
PRODUCTS = {"aten::mm", "aten::bmm", "aten::addmm", "aten::addmv", "aten::mv"}


def numbers(result: object) -> Iterator[float]:
    """All numbers in a result, in order."""
    if isinstance(result, Tensor | np.ndarray):
        yield from torch.as_tensor(result).detach().cpu().double().flatten().tolist()
    elif isinstance(result, Number):
        yield float(result)  # type: ignore[arg-type]
    elif is_dataclass(result):
        for field in fields(result):
            yield from numbers(getattr(result, field.name))
    elif isinstance(result, Mapping):
        for value in result.values():
            yield from numbers(value)
    elif isinstance(result, list | tuple):
        for value in result:
            yield from numbers(value)


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_says_what_it_says_on_the_cpu(name, simulated):
    judge = JUDGES[name]
    expected = list(numbers(judge(X, Z)))
    assert expected
    for x, z in product((X, X.to(D)), (Z, Z.to(D))):
        with simulated.record() as seen:
            found = list(numbers(judge(x, z)))
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4, nan_ok=True)
        if x.device.type == z.device.type == D and name not in ELEMENTWISE:
            assert PRODUCTS & seen.operators.keys(), "no product was computed on the device"


@counted
def test_a_fit_waits_a_few_times_an_iteration(simulated):
    """Where its gradient, its step and its length are looked at: not once a class, a penalty or a row."""
    x, z = X.to(D), Z.to(D)
    with simulated.record() as seen:
        e.linear_predict(x, Y, z, penalties=(1e-1, 1e-2))
    updates = sum(count for (_, line), count in seen.by_line().items() if line.endswith(" update"))
    assert updates > 10
    assert len(seen.waits) < 12 * updates + 40


def test_labels_may_lie_on_either_device():
    expected = list(numbers(e.knn(X, Y, Z, W, k=5)))
    assert integer_labels(Y.to(D), "y").device.type == D
    assert list(numbers(e.knn(X.to(D), Y.to(D), Z, W.to(D), k=5))) == pytest.approx(expected)
    assert list(numbers(e.knn(X, Y.to(D), Z.to(D), W, k=5))) == pytest.approx(expected)


TASKS = "knn,linear,ridge,retrieval,ood,geometry"


def evaluated(run: Run, tasks: str = TASKS, **more: bool) -> dict[tuple[str, ...], float]:
    """Figures of an evaluation on pictures of two kinds."""
    images, labels = pixels(60), [i % 2 for i in range(60)]
    given = {"labels": labels, "test": as_source(images, labels=labels), "progress": False}
    given |= {"ood": 255 - images} if "ood" in tasks else {}
    found = run.evaluate(images, tasks=tasks, **given, **more)
    return {
        (task, f.model, f.layer, f.metric, f.variant, f.subset): f.value
        for task, result in found.results.items()
        for f in result.figures
    }


@pytest.fixture
def both(tmp_path) -> tuple[Run, Run]:
    """One run on the CPU and on the device."""
    here, there = (isosphere.load(shutil.copytree(KEPT, tmp_path / n), device="cpu") for n in ("a", "b"))
    there.method.to(D)
    return here, there


def test_an_evaluation_is_that_of_the_cpu(both, simulated):
    expected, found = (evaluated(run, baselines=False, cache=False) for run in both)
    assert {key[0] for key in expected} == set(TASKS.split(","))
    assert found == pytest.approx(expected, rel=2e-3, abs=2e-3, nan_ok=True)


def test_features_stay_where_there_is_room(both, monkeypatch, simulated):
    here, there = both
    expected = evaluated(here, "knn", cache=False)
    for _ in range(2):  # the second time from the cache
        with simulated.record() as seen:
            assert evaluated(there, "knn") == pytest.approx(expected, rel=2e-3, abs=2e-3)
        assert "aten::topk" in seen.operators
    monkeypatch.setattr(torch.get_device_module(D), "mem_get_info", lambda device=None: (0, 0))
    with simulated.record() as seen:
        assert evaluated(there, "knn", cache=False) == pytest.approx(expected, rel=2e-3, abs=2e-3)
    assert "aten::topk" not in seen.operators
    assert seen.launches > 10  # the features


def test_what_has_no_room_on_the_device_is_computed_on_the_cpu():
    def compute(x: Tensor, y: Tensor) -> Tensor:
        if x.device.type == D:
            raise torch.OutOfMemoryError("no room")
        return x @ y

    x = torch.ones(2, 2)
    assert torch.equal(on_device_or_cpu(compute, x.to(D), x), x @ x)
    with pytest.raises(torch.OutOfMemoryError):
        on_device_or_cpu(lambda x: compute(x.to(D), x), x)


@counted
def test_a_quarter_of_what_is_free_holds_images(simulated):
    assert memory_room(launched()) == min(16 * 2**30, host_memory() or 0) // 4
