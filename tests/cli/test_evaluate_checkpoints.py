"""``train.keep_every`` and ``isosphere evaluate --tasks unlabelled``: points of a training, ranked without labels."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import isosphere
from isosphere.evaluation import HIGHER_IS_BETTER
from isosphere.runs import RunFolder


def test_checkpoints_are_kept_ranked_and_reported(run, classes, quick, figures):
    words = (*quick[2:], "--batch-size=20", "--epochs=4", "--set=train.keep_every=2")
    assert run("train", classes, "--out", "r", *words).code == 0
    folder = RunFolder.open("r")
    assert folder.kept_epochs() == [2, 4]
    last = isosphere.load("r").method.state_dict()
    assert all(
        torch.equal(x, last[name]) for name, x in isosphere.load("r", epoch=4).method.state_dict().items()
    )
    kept = isosphere.load("r", epoch=2).method.state_dict()
    assert any(not torch.equal(x, last[name]) for name, x in kept.items())
    assert load_file("r/checkpoints/epoch-0002.safetensors").keys() <= kept.keys()

    asked = ("evaluate", "r", classes, "--test", classes, "--tasks", "unlabelled")
    done = run(*asked)
    assert (done.code, done.err) == (0, "")
    assert "What each figure chooses among 2 checkpoints" in done.out
    found = figures()
    entry = found["checkpoints"]
    assert entry.protocol["epochs"] == [2, 4]
    for layer in ("head", "backbone"):
        for name in HIGHER_IS_BETTER:
            last, trained = (
                result.one(model=model, layer=layer, metric=name).estimate
                for result, model in ((entry, "epoch-4"), (found["unlabelled"], "trained"))
            )
            assert last == trained
            assert entry.one(layer=layer, metric="spearman", variant=name)
    assert 0 <= entry.one(model="epoch-2", metric="accuracy").value <= 1
    weights = {file.name.split("-")[0] for file in Path("r/features").iterdir()}
    assert len(weights) == 3  # of epochs 2 and 4, and untrained
    text = Path("r/evaluation.json").read_text()
    run(*asked)
    assert Path("r/evaluation.json").read_text() == text
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    assert run("report", "r", "--limit", 20).code == 0
    assert "What each figure chooses among 2 checkpoints" in Path("r/report.html").read_text(encoding="utf-8")


def test_a_run_without_kept_weights_is_refused_by_name_alone(run, classes, quick):
    run("train", classes, "--out", "r", *quick[1:], "--epochs=0")
    done = run("evaluate", "r", classes, "--test", classes, "--tasks", "checkpoints")
    assert done.code == 2
    assert "train.keep_every=1" in done.err
    done = run("evaluate", "r", classes, "--test", classes, "--tasks", "unlabelled")
    assert done.code == 0
    assert "heckpoints" not in done.out
