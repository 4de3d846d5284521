"""``isosphere evaluate`` twice: nothing is computed again, and the figures are the same to the bit."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isosphere.cli import exam


def figures():
    return json.loads(Path("r/evaluation.json").read_text())


@pytest.fixture
def computed(monkeypatch):
    """Which extractions were made."""
    calls = []
    for name in ("extract", "extract_views"):
        own = getattr(exam, name)
        monkeypatch.setattr(exam, name, lambda *a, n=name, f=own, **k: calls.append(n) or f(*a, **k))
    return calls


def test_a_second_evaluation_computes_nothing_and_says_the_same(run, split, quick, computed, tmp_path):
    run("train", split, "--out", "r", *quick)
    np.savez(tmp_path / "grey.npz", images=np.full((5, 16, 16, 3), 200, np.uint8))
    words = ("evaluate", "r", split, "--tasks", "knn,linear,retrieval,ood", "--ood", tmp_path / "grey.npz")
    assert run(*words, "--no-cache").code == 0
    without = figures()
    assert not Path("r/features").exists()
    computed.clear()
    assert run(*words).code == 0
    assert figures() == without
    # Two contestants: training, test and foreign images once, two views of test images once.
    assert sorted(computed) == ["extract"] * 6 + ["extract_views"] * 2
    computed.clear()
    done = run(*words)
    assert (done.code, done.err) == (0, "")
    assert figures() == without
    assert computed == []
    assert run(*words, "--no-cache").code == 0
    assert len(computed) == 8


def test_own_scores_are_kept_in_their_order(run, classes, computed, tmp_path):
    words = ["--epochs=1", "--batch-size=8", "--set=train.tensorboard=false", "--set=train.device=cpu"]
    assert run("train", classes, "--out", "r", "--method", "vje", *words).code == 0
    np.savez(tmp_path / "grey.npz", images=np.full((15, 16, 16, 3), 200, np.uint8))
    asked = ("evaluate", "r", classes, "--tasks", "ood", "--ood", tmp_path / "grey.npz")
    run(*asked)
    first = figures()
    computed.clear()
    run(*asked)
    assert computed == []
    assert list(figures()["ood"]) == list(first["ood"])
    assert figures() == first


def test_other_weights_or_images_are_computed_anew(run, quick, computed, tmp_path):
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        (tmp_path / "data" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "data" / "ab"[i % 2] / f"{i}.png")
    data = tmp_path / "data"
    run("train", data, "--out", "r", *quick)
    asked = ("evaluate", "r", data, "--tasks", "knn")
    run(*asked)
    kept = {file.name for file in Path("r/features").iterdir()}
    assert len(kept) == 4
    computed.clear()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(data / "a" / "0.png")  # under its old name
    run(*asked)
    assert len(computed) == 2  # the part that it is in, for two contestants
    run(*asked)
    assert len(computed) == 2
    run("train", data, "--out", "r", "--resume", *quick[1:], "--epochs", 2)
    computed.clear()
    run(*asked)
    assert len(computed) == 2  # the untrained network is what it was
    names = {file.name.split("-")[0] for file in Path("r/features").iterdir()}
    assert len(names) == 2  # nothing of the former weights is left


def test_a_foreign_set_is_never_called_as_the_runs_own_parts(split):
    from isosphere.cli.sets import choose_outside

    names = choose_outside([f"{split}/train", f"{split}/train/", f"{split}/val"], seed=0, limit=None)
    assert list(names) == ["train-2", "train-3", "val"]
