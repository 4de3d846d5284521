"""What the claims about weights predict is what the library says, and their rules decide as they state."""

import pytest

pytest.importorskip("matplotlib", reason="claims draw with matplotlib")

from experiments.claims.odds_over_dimension import __main__ as odds
from experiments.claims.published_weights import __main__ as published
from experiments.claims.two_readings import __main__ as readings
from experiments.methods.cell import DATA, configuration
from experiments.methods.filling import METRICS, job
from isosphere.discrepancies import build_discrepancy
from isosphere.methods import balanced_weight, invariance_slope, weight_of_lambda


@pytest.mark.parametrize("arm", odds.PREDICTED)
def test_the_predicted_odds_are_those_of_the_balanced_weight(arm):
    method, dim = arm
    n = DATA["wood"].settings["train.batch_size"]
    weight = balanced_weight(build_discrepancy(method, dim), n, invariance_slope(2, 0))
    assert weight / (1 - weight) == pytest.approx(odds.PREDICTED[arm], rel=0.02)


def test_the_best_odds_are_the_vertex_of_a_parabola_in_their_logarithm():
    import math

    curve = [-((math.log(o) - math.log(10)) ** 2) for o in odds.ODDS]
    assert odds.best_odds(curve) == pytest.approx(10)
    assert odds.best_odds([5, 4, 3, 2, 1]) == odds.ODDS[0]
    assert odds.best_odds([1, 2, 3, 4, 5]) == odds.ODDS[-1]
    assert odds.best_odds([1.0, 1.0, 1.0, 1.0, 1.0]) in odds.ODDS


def rows_with_peaks(peaks, seeds=(0, 1, 2), epochs=12):
    import math

    rows = []
    for wanted in odds.jobs(None):
        if wanted["seed"] in seeds and wanted["epochs"] == epochs:
            dim, weight = (float(item.split("=")[1]) for item in wanted["options"].split(";"))
            distance = math.log(weight / (1 - weight)) - math.log(peaks[wanted["method"], int(dim)])
            row = dict.fromkeys(METRICS, "") | {k: str(v) for k, v in wanted.items()}
            rows.append(row | {"validation": str(80 - distance**2), "recall1_head": "70"})
    return rows


@pytest.mark.parametrize(
    ("peaks", "word"),
    [
        ((5.6, 25, 2, 8), "holds"),
        ((13, 13, 4, 4), "in part"),
        ((5, 20, 5, 20), "in part"),
        ((10, 10, 10, 10), "does not hold"),
    ],
)
def test_the_experiment_could_falsify_the_rule(peaks, word):
    arms = [(m, d) for m in odds.METHODS for d in odds.DIMS]
    found = dict(zip(arms, peaks, strict=True))
    assert odds.verdict(rows_with_peaks(found)).word == word
    assert odds.verdict(rows_with_peaks(found, seeds=(0,))).word == f"a first look: {word}"
    assert odds.verdict(rows_with_peaks(found, epochs=6)).word == f"a first look: {word}"
    assert "cannot be decided" in odds.verdict(rows_with_peaks(found)[:7]).word


def test_cells_of_the_two_readings_train_at_the_weights_that_they_name():
    wanted = [j for j in readings.jobs(None) if j["method"] != "untrained"]
    assert len({tuple(j.items()) for j in wanted}) == 2 * 2 * 4 * 2
    config = configuration(
        job("wood", "kl-heat", 0, readings.options("kl-heat", "averaged", "wood")), "textures:wood"
    )
    assert config.method.weight == pytest.approx(128 / 129, rel=1e-5)
    assert config.method.options == {"scale": "paper"}


def test_weights_of_tiny_runs_are_those_of_the_conversion():
    for value, name in ((0.05, "mmd-heat"), (0.5, "kl-heat")):
        for reading, library in (("averaged", "sphere-jepa"), ("literal", "sphere-jepa-literal")):
            expected = weight_of_lambda(value, library, dim=published.DIM, discrepancy=name)
            assert published.READINGS[reading](value) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("literal", "averaged", "word"),
    [
        (30.0, 60.0, "the averaged reading"),
        (60.0, 30.0, "the literal reading"),
        (60.0, 60.0, "cannot be decided"),
    ],
)
def test_which_reading_trains(literal, averaged, word):
    rows = []
    for wanted in readings.jobs(None):
        found = {"literal": literal, "averaged": averaged}
        value = next(
            (found[r] for r in found if wanted["options"] == options_of(wanted, r)),
            30.0,
        )
        figures = {"knn": value, "recall1_head": value, "collapsed": str(value == 30.0)}
        rows.append(dict.fromkeys(METRICS, "") | {k: str(v) for k, v in (wanted | figures).items()})
    assert readings.verdict(rows).word == word


def options_of(wanted, reading):
    if wanted["method"] == "untrained":
        return None
    return readings.options(wanted["method"], reading, wanted["data"])
