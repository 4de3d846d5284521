"""``isosphere evaluate`` with other probes and with the deeper layers of a ViT."""

from pathlib import Path

import pytest


@pytest.mark.parametrize("probe", ["adamw", "sgd"])
def test_the_probe_by_descent_says_what_it_chose(run, split, quick, probe, figures):
    run("train", split, "--out", "r", *quick[1:], "--epochs=0")
    done = run("evaluate", "r", split, "--tasks", "linear", "--probe", probe)
    assert (done.code, done.err) == (0, "")
    entry = figures()["linear"]
    assert entry.one(model="pixels").value == 1.0
    protocol = entry.protocol
    assert protocol["epochs"] == [10, 30, 100]
    for chosen in protocol["chosen"]:
        assert chosen["rate"] in protocol["rates"]
        assert chosen["epochs"] in protocol["epochs"]
    assert {"adamw": "AdamW", "sgd": "SGD"}[probe] in done.out


def test_class_tokens_of_a_vit(run, split, quick, figures):
    vit = ("--encoder", "test_vit", "--set=data.image_size=32")
    assert run("train", split, "--out", "r", *quick[1:], "--epochs=0", *vit).code == 0
    words = ("evaluate", "r", split, "--tasks", "linear,knn", "--layer", "last1", "--layer", "last3")
    done = run(*words)
    assert (done.code, done.err) == (0, "")
    assert "class tokens of its last 3 blocks" in done.out
    found = figures()
    last, pooled = (found["knn"].one(model="trained", layer=layer) for layer in ("last1", "backbone"))
    assert last.estimate == pooled.estimate
    assert found["linear"].one(layer="last3")
    first = Path("r/evaluation.json").read_text()
    run(*words)
    assert Path("r/evaluation.json").read_text() == first
    refused = run(*words, "--layer", "last99")
    assert refused.code == 2
    assert "blocks" in refused.err


def test_refusals(run, split, quick):
    run("train", split, "--out", "r", *quick[1:], "--epochs=0")
    for words, said in (
        (["--probe", "lars"], "lbfgs, adamw or sgd"),
        (["--layer", "last2"], "no class token"),
    ):
        done = run("evaluate", "r", split, *words)
        assert done.code == 2
        assert said in done.err
        assert done.err.count("\n") == 1
