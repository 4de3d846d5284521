"""``isosphere evaluate --tasks unlabelled`` and the order that ``isosphere report`` makes of it."""

from pathlib import Path

import pytest

from isosphere.evaluation import HIGHER_IS_BETTER


def test_runs_are_ranked_in_a_report(run, classes, quick, figures):
    for name, seed in (("r", 0), ("s", 1)):
        run("train", classes, "--out", name, *quick[1:], "--epochs=0", "--set", f"train.seed={seed}")
        done = run("evaluate", name, classes, "--test", classes, "--tasks", "unlabelled,knn,geometry")
        assert (done.code, done.err) == (0, "")
        assert "RankMe" in done.out
    found = figures()["unlabelled"]
    for who in ("trained", "untrained"):
        for layer in ("head", "backbone"):
            for measure in HIGHER_IS_BETTER:
                estimate = found.one(model=who, layer=layer, metric=measure).estimate
                assert estimate.low <= estimate.value <= estimate.high
    assert found.protocol["images"] == 60
    assert found.protocol["dimensions"]["head"] == 16
    geometry = figures()["geometry"]
    assert (
        geometry.one(model="trained", metric="rankme").value
        == found.one(model="trained", layer="head", metric="rankme").value
    )
    assert geometry.protocol["silhouette_and_nmi_images"] == 60
    assert geometry.protocol["local_dimension_neighbours"] == 20
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    assert run("report", "r", "s", "--limit", 20).code == 0
    text = Path("r/comparison.html").read_text(encoding="utf-8")
    assert "Ranked without labels" in text
    assert "3 runs or more" in text


def test_too_few_images_are_refused(run, split, quick):
    run("train", split, "--out", "r", *quick[1:], "--epochs=0")
    done = run("evaluate", "r", split, "--tasks", "unlabelled")
    assert done.code == 2
    assert "at least 20 test images" in done.err
