"""The tasks of ``isosphere evaluate`` beyond the default ones: probes, ood_scores, structure of classes."""

from pathlib import Path

import numpy as np
import pytest


def test_probes_stand_beside_pixels_and_say_what_they_chose(run, classes, quick, figures, check_estimates):
    run("train", classes, "--out", "r", *quick)
    done = run("evaluate", "r", classes, "--tasks", "linear,ridge")
    assert done.code == 0, done.err
    assert done.err == ""
    found = figures()
    assert set(found) == {"linear", "ridge"}
    candidates = {
        ("trained", "backbone"),
        ("trained", "head"),
        ("untrained", "backbone"),
        ("pixels", ""),
        ("pca", ""),
    }
    for task, variants in (("linear", {""}), ("ridge", {"exponential", "linear"})):
        result = found[task]
        check_estimates(result)
        keys = {(f.model, f.layer, f.variant) for f in result.find(metric="balanced_accuracy")}
        assert keys == {
            (*key, variant) for key in candidates | {("largest-class", "")} for variant in variants
        }
        assert all(f.value == 1.0 for f in result.find(model="pixels", metric="accuracy"))  # red and blue
        assert result.protocol["test_images"] == 12
        assert {(each["model"], each["layer"]) for each in result.protocol["chosen"]} == candidates
    first = found["ridge"].protocol["chosen"][0]
    assert (first["model"], first["variant"]) == ("trained", "exponential")
    assert first["solver"] == "exact, by Cholesky factorisation"
    for words in (
        "Linear probe accuracy",
        "Kernel ridge accuracy",
        "exponential kernel",
        "PCA-whitened pixels",
    ):
        assert words in done.out


def test_ood_images_in_several_sets(run, classes, quick, tmp_path, figures, check_estimates):
    run("train", classes, "--out", "r", *quick)
    np.savez(tmp_path / "grey.npz", images=np.full((15, 16, 16, 3), 200, np.uint8))
    done = run(
        "evaluate",
        "r",
        classes,
        "--ood",
        "textures:wood?count=24&test=12&size=32",
        "--ood",
        tmp_path / "grey.npz",
    )
    assert done.code == 0, done.err
    found = figures()["ood"]
    check_estimates(found)
    sets = list(found.protocol["sets"])
    assert len(sets) == 2
    assert sets[1] == "grey.npz"
    assert found.protocol["images"] == {sets[0]: 12, sets[1]: 15}
    for score in ("knn", "mahalanobis", "class-cosine", "norm"):
        own = found.find(model="trained", layer="backbone", subset="grey.npz", variant=score)
        assert {f.metric for f in own} == {"auroc", "aupr_out", "aupr_in", "fpr@95"}
    key = {"model": "trained", "layer": "backbone", "subset": "grey.npz", "metric": "auroc"}
    assert found.one(**key, variant="mahalanobis").value > 0.9
    assert done.out.count("FPR at 95 % TPR") == 2
    assert "knn" in figures()  # beside the tasks that need no foreign images


@pytest.mark.parametrize(
    ("method", "scores"),
    [
        ("vje", {"elbo", "elbo|h", "elbo-mean", "importance", "directional", "radial", "radial|h", "kl"}),
        ("vi-simsiam", {"concentration", "likelihood"}),
    ],
)
def test_a_methods_own_scores_stand_beside_the_distances(
    run, classes, tmp_path, method, scores, figures, check_estimates
):
    words = ["--epochs=1", "--batch-size=8", "--set=train.tensorboard=false", "--set=train.device=cpu"]
    trained = run("train", classes, "--out", "r", "--method", method, *words)
    assert trained.code == 0, trained.err
    np.savez(tmp_path / "grey.npz", images=np.full((15, 16, 16, 3), 200, np.uint8))
    done = run("evaluate", "r", classes, "--tasks", "ood", "--ood", tmp_path / "grey.npz")
    assert done.code == 0, done.err
    found = figures()["ood"]
    check_estimates(found)
    assert scores <= set(found.protocol["own_scores"])
    for score in scores:
        assert found.one(layer="method", subset="grey.npz", variant=score, metric="auroc")
        assert f"own score, {score}" in done.out
    assert found.one(model="trained", layer="backbone", variant="knn", metric="auroc")


def test_one_foreign_set_twice_has_two_names(run, classes, quick, tmp_path, figures):
    run("train", classes, "--out", "r", *quick)
    np.savez(tmp_path / "a b.npz", images=np.full((5, 16, 16, 3), 200, np.uint8))
    done = run(
        "evaluate",
        "r",
        classes,
        "--tasks",
        "ood",
        "--ood",
        tmp_path / "a b.npz",
        "--ood",
        tmp_path / "a b.npz",
    )
    assert done.code == 0, done.err
    assert list(figures()["ood"].protocol["sets"]) == ["a-b.npz", "a-b.npz-2"]


def test_labels_add_classes_to_retrieval_and_geometry(run, split, quick, figures, check_estimates):
    run("train", split, "--out", "r", *quick)
    done = run("evaluate", "r", split, "--test", split, "--tasks", "retrieval")
    assert done.code == 0, done.err
    found = figures()["retrieval"]
    check_estimates(found)
    assert found.protocol["class_images"] == 10
    by_class = found.find(model="trained", layer="head", variant="class")
    assert {f.metric for f in by_class} == {"recall@1", "recall@5", "recall@10", "map"}
    assert "Images of the same class among 10" in done.out


def test_geometry_of_classes(run, classes, quick, figures, check_estimates):
    run("train", classes, "--out", "r", *quick)
    done = run("evaluate", "r", classes, "--test", classes, "--tasks", "geometry")
    assert done.code == 0, done.err
    found = figures()["geometry"]
    check_estimates(found)
    for name in ("fisher_ratio", "class_angle", "silhouette", "kmeans_nmi", "lidar", "local_dimension"):
        assert found.one(model="trained", metric=name)
    assert found.one(model="trained", metric="class_angle").value == pytest.approx(
        180
    )  # two means, seen from their mean
    assert "silhouette of the classes" in done.out


def test_baselines_can_be_left_out(run, classes, quick, figures):
    run("train", classes, "--out", "r", *quick)
    done = run("evaluate", "r", classes, "--tasks", "knn,linear,retrieval", "--no-baselines")
    assert (done.code, done.err) == (0, "")
    assert {f.model for result in figures().values() for f in result.figures} == {"trained", "largest-class"}
    assert "Compare with another run" in done.out
    assert not list(Path("r/features").glob("images-*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tasks", "ood"], "add --ood DATA"),
        (["--tasks", "ood", "--ood", "nowhere"], "no file or folder nowhere"),
        (["--tasks", "lineer"], "Did you mean 'linear'"),
    ],
)
def test_what_is_refused_costs_a_paragraph(run, classes, quick, words, said):
    run("train", classes, "--out", "r", *quick[1:], "--epochs=0")
    done = run("evaluate", "r", classes, *words)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not (Path("r") / "evaluation.json").exists()
