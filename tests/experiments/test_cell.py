"""A cell of the table is a run, and its figures are those of that run's evaluation."""

import pytest

from experiments.methods.cell import FIXED, METRICS, baseline, configuration, figures_of, strength, train
from experiments.methods.filling import job
from isosphere.evaluation import read_results

SMALL = "data.limit=100;model.dim=16;model.hidden=32;train.batch_size=50"
TEXTURES = "textures:wood?count=100&test=40"


@pytest.fixture(scope="module")
def textures(tmp_path_factory):
    wanted = job("wood", "kl-vmf", 0, SMALL, epochs=1)
    folder = tmp_path_factory.mktemp("textures") / "run"
    return wanted, *train(wanted, configuration(wanted, TEXTURES), folder)


def test_figures_of_a_cell_are_those_of_an_evaluation(textures):
    _, run, told = textures
    found = figures_of(run, "wood", TEXTURES) | told | strength(run)
    assert set(found) <= set(METRICS)
    kept = read_results(run.folder)  # of the last evaluation: by images that the run did not see
    retrieval = kept["retrieval"]
    unseen = retrieval.one(model="trained", layer="head", metric="recall@1", variant="targets")
    assert found["validation"] == pytest.approx(100 * unseen.value)
    uniformity = kept["geometry"].one(model="trained", layer="head", metric="uniformity", variant="")
    assert found["uniformity"] == pytest.approx(uniformity.value)
    assert kept["geometry"].protocol["images"] == 40
    assert found["recall1_low"] <= found["recall1"] <= found["recall1_high"]
    assert 0 < found["r_min"] <= 1
    assert 0 < found["weight"] < 1
    assert found["images_per_second"] > 0


def test_a_baseline_is_what_an_evaluation_has_beside_the_encoder(textures):
    _, run, _ = textures
    found = baseline(run, job("wood", "descriptor"), TEXTURES)
    kept = read_results(run.folder)["retrieval"]
    figure = kept.one(model=FIXED["descriptor"], layer="", metric="recall@1", variant="targets")
    assert found["recall1"] == pytest.approx(100 * figure.value)
    assert "recall1_head" not in found


def test_classes_are_known_by_neighbours_under_each_metric_and_by_a_probe(tmp_path):
    wanted = job("cifar10", "untrained", 0, SMALL + ";data.limit=200")
    run, told = train(wanted, configuration(wanted, "digits"), tmp_path / "run")
    found = figures_of(run, "cifar10", "digits") | told
    assert {"knn", "knn_head", "knn_white", "knn_views", "linear", "map", "map_head", "fisher"} <= set(found)
    assert "images_per_second" not in found  # it was not trained
    knn = baseline(run, wanted | {"method": "pixels"}, "digits")
    assert set(knn) == {"knn", "knn_low", "knn_high", "linear", "linear_low", "linear_high"}
    assert knn["knn"] > 50
