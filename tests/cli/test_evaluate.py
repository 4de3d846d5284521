"""``isosphere evaluate`` as it is typed."""

import csv
import importlib
import io
import json
from pathlib import Path

import pytest
import torch

from isosphere.runs import RunFolder
from isosphere.workflows.tasks._accuracy import _worth_a_metric


def test_labelled_images_without_a_split(run, classes, quick, figures, check_estimates):
    run("train", classes, "--out", "r", *quick)
    done = run("evaluate", "r", classes)
    assert done.code == 0, done.err
    assert done.err == ""
    knn = figures()["knn"]
    check_estimates(knn)
    assert {(f.model, f.layer) for f in knn.figures} == {
        ("trained", "backbone"),
        ("trained", "head"),
        ("trained", "wccn"),
        ("trained", "whitened"),
        ("untrained", "backbone"),
        ("untrained", "whitened"),
        ("pixels", ""),
        ("pca", ""),
        ("largest-class", ""),
    }
    assert {f.metric for f in knn.figures} == {"accuracy", "balanced_accuracy", "recall"}
    assert knn.one(model="pixels").value == 1.0  # red and blue: pixels tell them apart
    assert knn.data == str(classes)
    assert len(knn.weights) == 16
    assert knn.protocol["train_images"] == 48
    assert knn.protocol["test_images"] == 12
    assert "80/20, stratified, seed 0" in knn.protocol["split"]
    assert "80/20" in done.out
    again = ("evaluate", "r", classes, "--tasks", "knn")
    rows = [{**row} for row in csv.DictReader(io.StringIO(run(*again, "--csv").out))]
    given = json.loads(run(*again, "--json").out)
    assert given["run"] == "r"
    assert [row["metric"] for row in given["rows"]] == [row["metric"] for row in rows]
    trained = [row for row in given["rows"] if (row["model"], row["layer"]) == ("trained", "backbone")]
    kept = {
        (f.metric, f.subset): f.value for f in knn.figures if (f.model, f.layer) == ("trained", "backbone")
    }
    assert {(row["metric"], row["subset"]): row["value"] for row in trained} == pytest.approx(kept, abs=1e-6)
    for word in (
        "trained encoder",
        "raw pixels",
        "PCA-whitened pixels",
        "untrained encoder, whitened",
        "trained encoder, WCCN",
    ):
        assert word in done.out
    assert "geometry" not in figures()  # 12 images are too few for its intervals
    assert done.out.splitlines()[-1].endswith(".") or "isosphere train" in done.out.splitlines()[-1]


def test_a_split_is_respected(run, split, quick, figures):
    run("train", split, "--out", "r", *quick)
    done = run("evaluate", "r", split)
    assert done.code == 0, done.err
    protocol = figures()["knn"].protocol
    assert (protocol["train_images"], protocol["test_images"], protocol["classes"]) == (30, 10, 2)
    assert protocol["split"] == "the data's own training and test parts"


def test_a_named_test_set_is_labelled_by_the_training_classes(run, classes, split, quick, figures):
    run("train", classes, "--out", "r", *quick)
    done = run("evaluate", "r", classes, "--test", split, "--tasks", "knn")
    assert done.code == 0, done.err
    knn = figures()["knn"]
    assert (knn.protocol["train_images"], knn.protocol["test_images"]) == (60, 10)
    assert knn.one(model="pixels").value == 1.0


@pytest.fixture
def textures_run(run, quick):
    data = "textures:wood?count=40&test=48&size=32"
    assert run("train", data, "--out", "r", *quick).code == 0
    return data


def test_textures_are_judged_by_retrieval_beside_a_descriptor(run, textures_run, figures, check_estimates):
    done = run("evaluate", "r", textures_run)
    assert done.code == 0, done.err
    assert "Without labels accuracy is not measured" in done.out
    assert "fixed rotation-invariant descriptor" in done.out
    found = figures()
    assert set(found) == {"retrieval", "geometry"}
    retrieval = found["retrieval"]
    check_estimates(retrieval)
    check_estimates(found["geometry"])
    models = [("trained", "head"), ("trained", "backbone"), ("untrained", "head"), ("untrained", "backbone")]
    for model, layer in [*models, ("descriptor", "")]:
        for metric in ("recall@1", "recall@3", "recall@5", "map"):
            key = {"model": model, "layer": layer, "metric": metric}
            near, wide = (retrieval.one(**key, variant=v).value for v in ("targets", "all"))
            assert near >= wide - 1e-9
    assert retrieval.one(model="descriptor", metric="recall@1", variant="targets").value > 3 / 48
    protocol = retrieval.protocol
    assert protocol["targets"]["batch"] == 48
    assert protocol["targets"]["queries"] == 48
    assert protocol["all"]["candidates_per_query"] == 95
    assert protocol["views"]["recipe"] == "textures"
    assert found["geometry"].protocol["images"] == 48
    assert found["geometry"].one(model="trained", metric="zscore", variant="mmd-heat")


def test_pictures_where_matplotlib_is_installed(run, textures_run):
    pytest.importorskip("matplotlib")
    run("train", textures_run, "--out", "r", "--resume", "--epochs", 2)
    done = run("evaluate", "r", textures_run)
    assert "r/neighbours.png" in done.out
    assert "r/curves.png" in done.out
    assert all((Path("r") / name).stat().st_size > 5000 for name in ("neighbours.png", "curves.png"))


def test_without_matplotlib_figures_are_still_measured(run, textures_run, monkeypatch):
    for module in ("isosphere.workflows._evaluate", "isosphere.cli.evaluate"):
        monkeypatch.setattr(importlib.import_module(module), "find_spec", lambda name: None)
    done = run("evaluate", "r", textures_run, "--tasks", "geometry")
    assert done.code == 0, done.err
    assert "pip install matplotlib" in done.out
    assert not (Path("r") / "curves.png").exists()


def test_the_same_command_gives_the_same_figures(run, textures_run, figures):
    run("evaluate", "r", textures_run, "--limit", 30)
    first = figures()
    run("evaluate", "r", textures_run, "--limit", 30)
    assert figures() == first
    assert first["retrieval"].protocol["targets"]["queries"] == 30


def test_the_untrained_run_is_judged_equal_to_its_untrained_self(run, quick, figures):
    data = "textures:disk?count=40&test=24&size=32"
    run("train", data, "--out", "r", *quick[1:], "--epochs=0")
    assert run("evaluate", "r", data).code == 0
    retrieval = figures()["retrieval"]
    for layer in ("head", "backbone"):
        key = {"layer": layer, "metric": "recall@1", "variant": "targets"}
        trained, untrained = (retrieval.one(model=model, **key) for model in ("trained", "untrained"))
        assert trained.estimate == untrained.estimate


def test_tasks_are_kept_beside_each_other(run, textures_run, figures):
    run("evaluate", "r", textures_run, "--tasks", "retrieval")
    run("evaluate", "r", textures_run, "--tasks", "geometry")
    assert set(figures()) == {"retrieval", "geometry"}


def test_weights_to_start_from_may_be_gone(run, classes, quick, figures):
    run("train", classes, "--out", "first", *quick)
    run("train", classes, "--out", "r", *quick, "--init", "first/encoder.safetensors")
    assert "initial encoder" in run("evaluate", "r", classes, "--tasks", "knn").out
    RunFolder("first").encoder.unlink()
    done = run("evaluate", "r", classes, "--tasks", "knn")
    assert done.code == 0, done.err
    assert "cannot be had again" in done.out
    assert {f.model for f in figures()["knn"].figures} == {"trained", "pixels", "pca", "largest-class"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent", "DATA"], "no run at absent"),
        (["r"], "DATA"),
        (["r", "nowhere"], "no file or folder nowhere"),
        (["r", "DATA", "--tasks", "kn"], "Did you mean 'knn'"),
        (["r", "DATA", "--tasks", ","], "--tasks is empty"),
        (["r", "DATA", "--tasks", "knn"], "needs labels"),
        (["r", "DATA", "--limit", "10", "--tasks", "geometry"], "at least 20 test images"),
        (["r", "DATA", "--limit", "1"], "--limit"),
    ],
)
def test_what_is_refused_costs_a_paragraph(run, textures_run, words, said):
    done = run("evaluate", *(textures_run if word == "DATA" else word for word in words))
    assert done.code == 2
    assert said in done.err
    assert done.err.startswith("isosphere: ")
    assert done.err.count("\n") == 1
    assert not (Path("r") / "evaluation.json").exists()


def test_features_in_few_directions_are_worth_another_metric():
    """Half of the labels are found as the features are, nearly all when they are whitened."""
    plain, white = torch.arange(400) % 2 == 0, torch.arange(400) % 20 > 0
    judged = ("trained", "backbone")
    correct = {("trained", "backbone"): plain.double(), ("trained", "whitened"): white.double()}
    assert "45.0 points more" in (said := _worth_a_metric(correct, judged))
    assert said.startswith("Whitened")
    correct["trained", "wccn"] = white.double()
    assert 'layer="wccn"' in _worth_a_metric(correct, judged)
    assert (
        _worth_a_metric(
            {("trained", "backbone"): plain.double(), ("trained", "whitened"): plain.double()}, judged
        )
        == ""
    )
    assert _worth_a_metric({judged: plain.double()}, judged) == ""
