"""``isosphere evaluate`` twice: nothing is computed again, and the figures are the same to the bit."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import isosphere.workflows._features as features_module
from isosphere.workflows._splits import choose_ood


def written():
    return Path("r/evaluation.json").read_text()


@pytest.fixture
def computed(monkeypatch):
    """Which passes were made over which images: how many of them, and what was computed."""
    calls = []
    own = features_module.read

    def read(source, looks, **options):
        calls.append((len(source), sorted(looks)))
        return own(source, looks, **options)

    monkeypatch.setattr(features_module, "read", read)
    return calls


def test_a_second_evaluation_computes_nothing_and_says_the_same(run, split, quick, computed, tmp_path):
    run("train", split, "--out", "r", *quick)
    np.savez(tmp_path / "grey.npz", images=np.full((5, 16, 16, 3), 200, np.uint8))
    words = ("evaluate", "r", split, "--tasks", "knn,linear,retrieval,ood", "--ood", tmp_path / "grey.npz")
    assert run(*words, "--no-cache").code == 0
    without = written()
    assert not Path("r/features").exists()
    computed.clear()
    assert run(*words).code == 0
    assert written() == without
    # Every image is decoded once, for both models and all tasks together.
    centre = ["trained/centre", "untrained/centre"]
    views = ["trained/views", "untrained/views"]
    assert sorted(computed) == [
        (5, centre),
        (10, sorted([*centre, *views, "pixels"])),
        (30, sorted([*centre, "pixels"])),
    ]
    computed.clear()
    done = run(*words)
    assert (done.code, done.err) == (0, "")
    assert written() == without
    assert computed == []
    assert run(*words, "--no-cache").code == 0
    assert len(computed) == 3


def test_own_scores_are_kept_in_their_order(run, classes, computed, tmp_path):
    words = ["--epochs=1", "--batch-size=8", "--set=train.tensorboard=false", "--set=train.device=cpu"]
    assert run("train", classes, "--out", "r", "--method", "vje", *words).code == 0
    np.savez(tmp_path / "grey.npz", images=np.full((15, 16, 16, 3), 200, np.uint8))
    asked = ("evaluate", "r", classes, "--tasks", "ood", "--ood", tmp_path / "grey.npz")
    run(*asked)
    first = written()
    computed.clear()
    run(*asked)
    assert computed == []
    assert written() == first


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
    assert len(kept) == 6  # two models and the pixels, of two parts
    computed.clear()
    first = (data / "a" / "0.png").read_bytes()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(data / "a" / "0.png")  # under its old name
    run(*asked)
    assert len(computed) == 1  # the part that it is in
    run(*asked)
    assert len(computed) == 1
    (data / "a" / "0.png").write_bytes(first)  # a training goes on with its own images alone
    assert run("train", data, "--out", "r", "--resume", *quick[1:], "--epochs", 2).code == 0
    computed.clear()
    run(*asked)
    assert [looks for _, looks in computed] == [
        ["trained/centre"]
    ] * 2  # the untrained network is what it was
    names = {file.name.split("-")[0] for file in Path("r/features").iterdir()}
    assert len(names) == 3  # nothing of the former weights is left; the pixels have none


def test_an_ood_set_is_never_called_as_the_runs_own_parts(split):
    names = choose_ood([f"{split}/train", f"{split}/train/", f"{split}/val"])
    assert list(names) == ["train-2", "train-3", "val"]
